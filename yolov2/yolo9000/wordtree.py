"""
WordTree: a tree of words, conditional probabilities at every node, and the walk down to an answer.

Paper   "YOLO9000: Better, Faster, Stronger", Redmon and Farhadi, 2016 (arXiv:1612.08242), section 4, "Hierarchical
        classification" and "Dataset combination with WordTree", Figures 5 and 6.
Source  Statements marked [darknet] come from src/tree.c, src/data.c, src/blas_kernels.cu and data/9k.tree of
        pjreddie/darknet at f6afaab.

The nodes of a tree are numbered from 0. Nodes with the same parent are siblings. The network has one output z_v for
each node v, and one softmax over each set of siblings (Figure 5):

    conditional  Pr(v | parent of v)  = exp(z_v) / sum_siblings exp(z)
    absolute     Pr(v | physical object) = Pr(v | parent of v) Pr(parent | its parent) ... Pr(root | physical object)

The root above all roots of the file is "physical object". It has no output. In a classifier Pr(physical object) is 1.
In a detector it is the objectness, which model.py and evaluate.py multiply in; it is no factor of the numbers here. In
this folder Pr(v) is short for Pr(v | physical object). A label c is learned on its path, which is c and all its
ancestors:

    loss = - sum_(v on the path of c) log Pr(v | parent of v) = - log Pr(c)

All other sets of siblings get no gradient: an image labelled "dog" says nothing about breeds [darknet: fill_hierarchy
in src/data.c masks their targets].

A tree file has one line for each node: its name, a blank, and the line number of its parent, counted from 0, or -1.
The order of the lines is the order of the network's outputs. Siblings stand on consecutive lines, so that a set of
siblings is a slice of the outputs; a parent stands above its children. data/9k.tree of Darknet is such a file.

    python yolov2/yolo9000/wordtree.py     prints the tree of the drawings

What changed from yolov2/loss.py: there is one softmax for each set of siblings instead of one for all classes.
"""
from typing import NamedTuple

import torch

from data_samples.draw_tree import HYPERNYMS, KINDS
from shared.errors import InputError, run
from shared.files import read_lines


class WordTree(NamedTuple):
    """n nodes in G groups of siblings. Group g is the nodes offset[g], offset[g] + 1, ... offset[g] + size[g] - 1."""
    names: list          # of each node: its name
    parent: list         # of each node: the number of its parent, -1 for a root
    group: list          # of each node: the number of the group that it is in. The roots are group 0
    child_group: list    # of each node: the number of the group of its children, -1 for a leaf
    offset: list         # of each group: its first node
    size: list           # of each group: how many nodes it has


def make_tree(names, parent, source="the tree"):
    """
    names    n names of nodes
    parent   n numbers of nodes, or -1
    source   what the message of an error begins with
    raises   InputError if a parent does not exist or is not above its child, or if siblings are not consecutive
    """
    group, child_group, offset, size = [], [-1] * len(names), [], []
    for node, (name, above) in enumerate(zip(names, parent, strict=True)):
        if not -1 <= above < node:
            raise InputError(f"{source}: line {node + 1}: the parent of {name} is {above}; it has to be the number of "
                             "a line above, counted from 0, or -1")
        if node == 0 or above != parent[node - 1]:                           # a new group begins
            if above == -1 and node > 0 or above >= 0 and child_group[above] != -1:
                raise InputError(f"{source}: line {node + 1}: {name} is not on the line after its siblings")
            if above >= 0:
                child_group[above] = len(offset)
            offset.append(node)
            size.append(0)
        group.append(len(offset) - 1)
        size[-1] += 1
    if not names:
        raise InputError(f"{source}: holds no nodes")
    return WordTree(list(names), list(parent), group, child_group, offset, size)


def read_tree(path):
    """Reads a tree file. Raises InputError, of one line that names the file, as make_tree and for malformed lines."""
    names, parent = [], []
    for number, line in enumerate(read_lines(path), 1):
        words = line.split()
        if len(words) != 2 or not words[1].removeprefix("-").isdecimal():
            raise InputError(f"{path}: line {number}: not a name and the number of its parent: {line[:80]!r}")
        names.append(words[0])
        parent.append(int(words[1]))
    return make_tree(names, parent, path)


def flat_tree(names):
    """A tree without a hierarchy: every name is a root, so there is one softmax over all of them, as in YOLOv2."""
    return make_tree(names, [-1] * len(names))


def path_to_root(tree, node):
    """The node and its ancestors, the root last."""
    path = []
    while node >= 0:
        path.append(node)
        node = tree.parent[node]
    return path


# ---- Building a tree (section 4, "Hierarchical classification")

def paths_of(name, hypernyms):
    """
    WordNet is a graph: a dog is a canine and a domestic animal. Returns all ways up from a name, each a list of names
    that begins with the name and ends with a root.

    hypernyms  {name: the names directly above it}; a root is not in it, or has none
    """
    above = hypernyms.get(name)
    if not above:
        return [[name]]
    return [[name, *path] for parent in above for path in paths_of(parent, hypernyms)]


def build_tree(names, hypernyms):
    """
    Makes a tree from the graph hypernyms. First all names with a single path to the root are added, with this path. For
    the others, one after the other, the path is added that grows the tree by the fewest edges [paper]. The paper does
    not say which name comes next: here it is the one that grows the tree the least, in case of a tie the first.

    names      the names that the tree has to hold
    hypernyms  as in paths_of
    """
    parent_of = {}                                           # name -> name, or None for a root; the tree so far
    paths = {name: paths_of(name, hypernyms) for name in names}

    def new_nodes(path):
        """The nodes of a path that the tree lacks: those below the path's first node that is already in the tree."""
        known = [name in parent_of for name in path]
        return path[:known.index(True)] if any(known) else path

    def add(path):
        for name, above in zip(new_nodes(path), [*path[1:], None]):
            parent_of[name] = above

    for name in names:
        if len(paths[name]) == 1:
            add(paths[name][0])
    left = [name for name in names if len(paths[name]) > 1]
    while left:
        growth = {name: min(len(new_nodes(path)) for path in paths[name]) for name in left}
        name = min(left, key=growth.get)
        add(min(paths[name], key=lambda path: len(new_nodes(path))))
        left.remove(name)

    order, level = [], [None]                                # level by level, children of one parent side by side
    while level:
        level = [name for above in level for name in parent_of if parent_of[name] == above]
        order += level
    number = {name: node for node, name in enumerate(order)} | {None: -1}
    return make_tree(order, [number[parent_of[name]] for name in order])


# ---- Probabilities (Figure 5)

def conditionals(logits, tree):
    """(..., n) outputs of a network -> (..., n) Pr(node | its parent): a softmax over each group of siblings."""
    return torch.cat([group.softmax(-1) for group in logits.split(tree.size, -1)], -1)


def log_conditionals(logits, tree):
    """The logarithms of conditionals, (..., n), which stay finite where a probability is too small for a float."""
    return torch.cat([group.log_softmax(-1) for group in logits.split(tree.size, -1)], -1)


def absolute(conditional, tree):
    """(..., n) conditionals -> (..., n) Pr(node): the product of the conditionals from the node up to its root."""
    p = conditional.clone()
    for first, size in zip(tree.offset, tree.size):          # parents are above their children, so theirs are done
        if tree.parent[first] >= 0:
            p[..., first:first + size] *= p[..., tree.parent[first], None]
    return p


# ---- Learning a label

def path_cross_entropy(logits, labels, tree):
    """
    logits   (R, n)
    labels   (R,)    nodes
    returns  (R,)    - log Pr(label): the sum of the cross-entropies of all groups on the label's path
    """
    log_p = log_conditionals(logits, tree)                                   # (R, n)
    return torch.stack([-log_p[r, path_to_root(tree, node)].sum() for r, node in enumerate(labels.tolist())])


# ---- Answering (section 4, "Hierarchical classification")

def paper_walk(p, tree, threshold):
    """
    Walks down from the root. At every split it takes the most probable child, as long as this child's absolute
    probability is above the threshold. If no root is above it, the answer is the most probable root, as in
    Darknet since September 2017; the paper does not say.

    p (n,) absolute probabilities -> the node
    """
    return walk(p, tree, threshold, multiply=False)


def darknet_walk(p, tree, threshold):
    """
    Darknet's walk (src/tree.c, hierarchy_top_prediction). It compares something else with the threshold: it multiplies
    the absolute probabilities of all nodes that it has passed. So it stops higher up. With conditionals of .98 at every
    level and a threshold of .5 it stops after 7 levels, the paper's walk after 34.

    p (n,) absolute probabilities -> the node
    """
    return walk(p, tree, threshold, multiply=True)


def walk(p, tree, threshold, multiply):
    p, node, group, product = p.tolist(), -1, 0, 1.0
    while group >= 0:
        first = tree.offset[group]
        best = max(range(first, first + tree.size[group]), key=p.__getitem__)            # in case of a tie the first
        product = product * p[best] if multiply else p[best]
        if product <= threshold:
            return best if node < 0 else node
        node, group = best, tree.child_group[best]
    return node


def main():
    tree = build_tree(list(KINDS), HYPERNYMS)
    for node in range(len(tree.names)):
        if tree.parent[node] < 0:
            print_below(tree, node, 0)
    leaves = tree.child_group.count(-1)
    depth = max(len(path_to_root(tree, node)) for node in range(len(tree.names)))
    print(f"{len(tree.names)} nodes, {leaves} of them leaves, in {len(tree.size)} groups of siblings, {depth} levels")


def print_below(tree, node, level):
    print("    " * level + tree.names[node])
    for below, above in enumerate(tree.parent):
        if above == node:
            print_below(tree, below, level + 1)


if __name__ == "__main__":
    run(main)
