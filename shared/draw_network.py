"""
A diagram of a network: its blocks with the shapes of their outputs, and arrows from block to block.

    blocks = {"stem": (0, 0, "a 3 x 3 convolution", "white"), "stage1": (0, 1, "1 residual block", "white")}
    arrows = [("stem", "stage1")]
    draw_network(axes, blocks, arrows, output_shapes(network, 416, 416))

A block is (column, row, text, colour) under its name. An arrow is straight if its blocks are in one column or one row.
Otherwise it leaves a block sideways and enters the next one from above or below.
"""
import torch
from matplotlib.patches import Rectangle

WIDTH, HEIGHT = 0.8, 0.66          # of a block, in columns and rows


@torch.inference_mode()
def output_shapes(network, height, width):
    """Runs a black image through the network. -> {name of a module: shape of its output without the batch}"""
    shapes, hooks = {}, []
    for name, module in network.named_modules():
        def record(module, inputs, output, name=name):
            if isinstance(output, torch.Tensor):
                shapes[name] = tuple(output.shape[1:])
        hooks.append(module.register_forward_hook(record))
    was_training = network.training
    network.eval()
    network(torch.zeros(1, 3, height, width))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return shapes


def draw_network(axes, blocks, arrows, shapes):
    """
    blocks  {name: (column, row, text, colour)}; row 0 is at the top
    arrows  a list of (name, name)
    shapes  {name: shape}, written into the blocks as 256 x 52 x 52
    """
    for name, (column, row, text, colour) in blocks.items():
        corner = column - WIDTH / 2, row - HEIGHT / 2
        axes.add_patch(Rectangle(corner, WIDTH, HEIGHT, facecolor=colour, edgecolor="black"))
        shape = " x ".join(str(length) for length in shapes[name])
        axes.text(column, row, f"{text}\n{shape}", ha="center", va="center", fontsize=10)
    for start, end in arrows:
        (x0, y0, *_), (x1, y1, *_) = blocks[start], blocks[end]
        right, down = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)           # 1, 0 or -1
        style = {"arrowstyle": "-|>", "color": "black"}
        if right and down:
            start_at, end_at = (x0 + right * WIDTH / 2, y0), (x1, y1 - down * HEIGHT / 2)
            style["connectionstyle"] = "angle,angleA=0,angleB=90,rad=0"
        elif right:
            start_at, end_at = (x0 + right * WIDTH / 2, y0), (x1 - right * WIDTH / 2, y1)
        else:
            start_at, end_at = (x0, y0 + down * HEIGHT / 2), (x1, y1 - down * HEIGHT / 2)
        axes.annotate("", end_at, start_at, arrowprops={**style, "shrinkA": 0, "shrinkB": 0})
    columns, rows = [block[0] for block in blocks.values()], [block[1] for block in blocks.values()]
    axes.set(xlim=(min(columns) - 0.5, max(columns) + 0.5), ylim=(max(rows) + 0.5, min(rows) - 0.5))
    axes.axis("off")
