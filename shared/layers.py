"""Prints the layers of a network as Darknet does when it starts, and folds BatchNorm into the convolutions."""
from functools import partial

import torch
import torch.nn as nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fuse_batchnorm(network):
    """
    Folds every BatchNorm into the convolution before it. The outputs stay the same and inference is faster. For
    inference only: it switches the network to evaluation mode. Returns the network.

    A block is any module with a convolution `conv` and a BatchNorm `bn`.
    """
    network.eval()
    for block in network.modules():
        conv, bn = getattr(block, "conv", None), getattr(block, "bn", None)
        if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
            block.conv = fuse_conv_bn_eval(conv, bn)
            block.bn = nn.Identity()
    return network


def count_operations(model, height, width):
    """
    Runs one forward pass of a black image, (1, 3, height, width).

    returns  a list of (name, layer, output shape, parameters, operations), one for each leaf layer, in the order in
             which the layers run. An operation is one multiplication or one addition in a convolution or a fully
             connected layer. There are two for each use of a weight, as in the BFLOPs that Darknet prints.
    """
    rows = []

    def record(name, layer, inputs, output):
        parameters = sum(parameter.numel() for parameter in layer.parameters())
        operations = 0
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            weights_per_output = layer.weight[0].numel()
            operations = 2 * weights_per_output * output[0].numel()
        rows.append((name, layer, tuple(output.shape), parameters, operations))

    hooks = []
    for name, layer in model.named_modules():
        if not list(layer.children()):
            hooks.append(layer.register_forward_hook(partial(record, name)))
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, 3, height, width, device=device))
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    return rows


def print_layer_table(model, height, width):
    """Prints the rows of count_operations and their sums."""
    rows = count_operations(model, height, width)
    print(f"{'layer':<30} {'kind':<12} {'output':<22} {'parameters':>12} {'BFLOPs':>8}")
    for name, layer, shape, parameters, operations in rows:
        kind, output = type(layer).__name__, " x ".join(str(length) for length in shape[1:])
        print(f"{name:<30} {kind:<12} {output:<22} {parameters:>12,} {operations / 1e9:>8.3f}")
    total = f"in all, at {width} x {height}"
    all_parameters, all_operations = sum(row[3] for row in rows), sum(row[4] for row in rows)
    print(f"{total:<66} {all_parameters:>12,} {all_operations / 1e9:>8.3f}")


def set_batchnorm_momentum(network, momentum):
    """Sets the share that each new batch has in BatchNorm's running averages."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = momentum
