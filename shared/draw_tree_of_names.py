"""
A picture of a tree of names: the roots on the left, the leaves on the right, each leaf on a line of its own.

A tree is a list of n names and the list parent of n numbers: the number of each node's parent, or -1 for a root. Nodes
are numbered from 0, and a parent has a smaller number than its children.

    figure, axes = plt.subplots()
    draw_tree_of_names(axes, ["animal", "dog", "cat"], [-1, 0, 0])
"""
BEND = 0.12          # where a line bends, in columns to the left of the child's name


def places(parent):
    """
    Where the nodes stand. A node's column is the number of its ancestors. A leaf has a line of its own, counted from
    the top, and an inner node is halfway between its first and its last child.

    returns  a list of n (column, line)
    """
    columns, children = [], [[] for _ in parent]
    for node, above in enumerate(parent):
        columns.append(0 if above < 0 else columns[above] + 1)
        if above >= 0:
            children[above].append(node)
    lines, leaves = [0.0] * len(parent), 0
    waiting = [node for node, above in enumerate(parent) if above < 0][::-1]
    while waiting:                                                           # down the tree, the first child first
        node = waiting.pop()
        waiting += children[node][::-1]
        if not children[node]:
            lines[node] = leaves
            leaves += 1
    for node in reversed(range(len(parent))):                                # children before their parents
        if children[node]:
            lines[node] = (lines[children[node][0]] + lines[children[node][-1]]) / 2
    return list(zip(columns, lines))


def nodes_below(parent, root):
    """A node and everything below it, as a list of numbers in ascending order."""
    below = {root}
    for node, above in enumerate(parent):
        if above in below:
            below.add(node)
    return sorted(below)


def draw_tree_of_names(axes, texts, parent, colours=None, nodes=None, fontsize=8):
    """
    texts    n texts, written at the nodes. A text should be narrower than a column, about 1 / depth of the axes
    parent   as above
    colours  n colours, the backgrounds of the texts; None: all white
    nodes    the nodes to draw, for example nodes_below(parent, root); None: all
    """
    place = places(parent)
    nodes = range(len(parent)) if nodes is None else nodes
    for node in nodes:
        x, y = place[node]
        if parent[node] in nodes:
            x0, y0 = place[parent[node]]
            axes.plot([x0, x - BEND, x - BEND, x], [y0, y0, y, y], color="0.6", linewidth=1, zorder=1)
        background = {"facecolor": colours[node] if colours else "white", "edgecolor": "none", "pad": 1.5}
        axes.text(x, y, texts[node], va="center", fontsize=fontsize, bbox=background, zorder=2)      # hides the line
    columns, lines = zip(*(place[node] for node in nodes))
    axes.set(xlim=(min(columns) - 0.05, max(columns) + 0.95), ylim=(max(lines) + 0.7, min(lines) - 0.7))
    axes.axis("off")
