"""The table that Darknet prints when it starts, with the parameters of each layer beside its operations."""
import torch
import torch.nn as nn


def count_operations(model, height, width):
    """
    One forward pass of a black image, (1, 3, height, width).

    returns  a list of (name, layer, output shape, parameters, operations), one per leaf layer in the order they run.
             An operation is a multiplication or an addition of a convolution or a fully connected layer: two for each
             weight that is applied, as Darknet counts its BFLOPs.
    """
    rows = []

    def record(layer, inputs, output, name):
        weights = layer.weight if isinstance(layer, (nn.Conv2d, nn.Linear)) else None
        operations = 0 if weights is None else 2 * weights[0].numel() * output[0].numel()
        rows.append((name, layer, tuple(output.shape), sum(p.numel() for p in layer.parameters()), operations))

    leaves = [(name, layer) for name, layer in model.named_modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(lambda *a, name=name: record(*a, name)) for name, layer in leaves]
    device, training = next(model.parameters()).device, model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, height, width, device=device))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return rows


def print_layer_table(model, height, width):
    """Prints the rows of count_operations and their sums."""
    rows = count_operations(model, height, width)
    print(f"{'layer':<30} {'kind':<12} {'output':<22} {'parameters':>12} {'BFLOPs':>8}")
    for name, layer, shape, parameters, operations in rows:
        print(f"{name:<30} {type(layer).__name__:<12} {' x '.join(map(str, shape[1:])):<22} {parameters:>12,} "
              f"{operations / 1e9:>8.3f}")
    print(f"{'in all, at ' + str(width) + ' x ' + str(height):<66} {sum(r[3] for r in rows):>12,} "
          f"{sum(r[4] for r in rows) / 1e9:>8.3f}")
