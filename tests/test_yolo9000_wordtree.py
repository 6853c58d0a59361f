"""
The tree of this file, worked through with a pencil:

    0 animal -+- 2 dog -+- 4 terrier        1 vehicle -+- 6 car
              |         +- 5 retriever                 +- 7 bus
              +- 3 cat

Its groups of siblings are (animal, vehicle), (dog, cat), (terrier, retriever) and (car, bus). The outputs are
logarithms: log 3, 0 | log 4, 0 | log 9, 0 | 0, 0.

    conditionals   .75  .25     .8  .2      .9  .1      .5    .5
    absolute       .75  .25     .6  .15     .54 .06     .125  .125
"""
import random
from math import log

import pytest
import torch
from pytest import approx

from reference_yolo9000_loss import masked_cross_entropy, masked_targets
from shared.errors import InputError
from yolov2.yolo9000.wordtree import (absolute, build_tree, conditionals, darknet_walk, flat_tree, make_tree,
                                      paper_walk, path_cross_entropy, path_to_root, paths_of, read_tree)

LINES = "animal -1\nvehicle -1\ndog 0\ncat 0\nterrier 2\nretriever 2\ncar 1\nbus 1\n"
TREE = make_tree("animal vehicle dog cat terrier retriever car bus".split(), [-1, -1, 0, 0, 2, 2, 1, 1])
OUTPUTS = torch.tensor([3, 1, 4, 1, 9, 1, 1, 1.0]).log()
ABSOLUTE = torch.tensor([0.75, 0.25, 0.6, 0.15, 0.54, 0.06, 0.125, 0.125])
DOG, TERRIER, ANIMAL = 2, 4, 0


# ---- the file

def test_a_tree_file(tmp_path):
    (tmp_path / "small.tree").write_bytes(LINES.encode())
    tree = read_tree(tmp_path / "small.tree")
    assert tree == TREE
    assert tree.names[4] == "terrier" and tree.parent == [-1, -1, 0, 0, 2, 2, 1, 1]
    assert tree.group == [0, 0, 1, 1, 2, 2, 3, 3]
    assert tree.child_group == [1, 3, 2, -1, -1, -1, -1, -1]
    assert tree.offset == [0, 2, 4, 6] and tree.size == [2, 2, 2, 2]
    assert path_to_root(tree, TERRIER) == [4, 2, 0]


@pytest.mark.parametrize("lines, message", [
    ("a -1\nb\n", r"line 2: not a name and the number of its parent: 'b'"),
    ("a -1\nb 0 1\n", r"line 2: not a name and the number of its parent"),
    ("a -1\nb x\n", r"line 2: not a name and the number of its parent"),
    ("a --1\n", r"line 1: not a name and the number of its parent: 'a --1'"),
    ("a -1\nb 1\n", r"line 2: the parent of b is 1; it has to be the number of a line above"),
    ("a 0\n", r"line 1: the parent of a is 0"),
    ("a -1\nb -2\n", r"line 2: the parent of b is -2"),
    ("a -1\nb 0\nc 1\nd 0\n", r"line 4: d is not on the line after its siblings"),
    ("a -1\nb 0\nc -1\n", r"line 3: c is not on the line after its siblings"),
    ("", r"holds no nodes")])
def test_what_is_wrong_with_a_tree_file_is_one_line(lines, message, tmp_path):
    path = tmp_path / "wrong.tree"
    path.write_text(lines)
    with pytest.raises(InputError, match=f"wrong.tree: {message}") as error:
        read_tree(path)
    assert "\n" not in str(error.value)


def test_a_missing_tree_file(tmp_path):
    with pytest.raises(InputError, match="none.tree: no such file"):
        read_tree(tmp_path / "none.tree")


def test_a_file_as_large_as_darknets_9k_tree(tmp_path):
    # 9k.tree has 9418 nodes, 4 roots, 46 groups of a single child and a group of 149 siblings, and is up to 17 deep.
    # Here: a chain of 17 nodes below root 0, 45 more single children, 149 siblings, then random groups.
    rng, parent, childless, sizes = random.Random(0), [-1] * 4, list(range(1, 4)), [4]
    above = 0
    for _ in range(16):                                                      # depth 17, 16 groups of one
        parent.append(above)
        above = len(parent) - 1
        sizes.append(1)
    childless.append(above)
    for size in [149] + [1] * 30 + [rng.randint(2, 8) for _ in range(3000)]:
        size = min(size, 9418 - len(parent))
        if size:
            above = childless.pop(1 if sizes[-1] > 99 else rng.randrange(len(childless)))
            childless += range(len(parent), len(parent) + size)
            parent += [above] * size
            sizes.append(size)
    (tmp_path / "9k.tree").write_text("".join(f"n{10**7 + i:08} {above}\n" for i, above in enumerate(parent)))

    tree = read_tree(tmp_path / "9k.tree")
    assert len(tree.names) == 9418 and tree.names[0] == "n10000000" and tree.parent == parent
    assert tree.size == sizes and sizes.count(1) >= 46 and max(sizes) == 149
    for group, (first, size) in enumerate(zip(tree.offset, tree.size)):
        siblings = range(first, first + size)
        assert [node for node in siblings if tree.group[node] != group or parent[node] != parent[first]] == []
        assert group == 0 or tree.child_group[parent[first]] == group and parent[first] < first
    assert sum(tree.size) == 9418 and tree.offset == [sum(sizes[:g]) for g in range(len(sizes))]
    assert max(len(path_to_root(tree, node)) for node in range(9418)) >= 17
    assert tree.child_group.count(-1) == 9418 - len(set(parent) - {-1})            # the leaves

    p = conditionals(torch.randn(2, 9418), tree)
    for above in (-1, 0, parent[-1]):                                        # each group adds up to 1
        group = [node for node in range(9418) if parent[node] == above]
        assert p[:, group].sum(1).tolist() == approx([1, 1], rel=1e-5)
    leaves = [node for node in range(9418) if tree.child_group[node] == -1]  # and so do the leaves of the whole tree
    assert absolute(p, tree)[:, leaves].sum(1).tolist() == approx([1, 1], rel=1e-4)


# ---- probabilities and the loss of a label

def test_the_probabilities():
    p = conditionals(OUTPUTS, TREE)
    assert p.tolist() == approx([0.75, 0.25, 0.8, 0.2, 0.9, 0.1, 0.5, 0.5])
    assert absolute(p, TREE).tolist() == approx(ABSOLUTE.tolist())
    assert p.tolist() == approx([0.75, 0.25, 0.8, 0.2, 0.9, 0.1, 0.5, 0.5])  # unchanged
    # In any shape, row by row
    stacked = torch.stack([OUTPUTS, torch.zeros(8)]).view(2, 1, 8)
    assert absolute(conditionals(stacked, TREE), TREE)[1, 0].tolist() == approx([0.5] * 2 + [0.25] * 2 + [0.125] * 2
                                                                                + [0.25] * 2)


@pytest.mark.parametrize("label, expected, gradient", [
    (DOG, 0.510826, [-0.25, 0.25, -0.2, 0.2, 0, 0, 0, 0]),                   # -log .75 - log .8
    (TERRIER, 0.616186, [-0.25, 0.25, -0.2, 0.2, -0.1, 0.1, 0, 0]),          # -log .75 - log .8 - log .9 = -log .54
    (ANIMAL, 0.287682, [-0.25, 0.25, 0, 0, 0, 0, 0, 0])])                    # -log .75
def test_the_loss_of_a_label(label, expected, gradient):
    outputs = OUTPUTS[None].clone().requires_grad_()
    loss = path_cross_entropy(outputs, torch.tensor([label]), TREE)
    assert loss.tolist() == approx([expected], abs=1e-6)
    assert expected == approx(-log(ABSOLUTE[label]), abs=1e-6)
    loss.sum().backward()
    assert outputs.grad[0].tolist() == approx(gradient, abs=1e-6)


def test_the_loss_of_a_label_is_that_of_darknets_masked_targets():
    # dog: animal 1, vehicle 0; dog 1, cat 0; the breeds and the vehicles are masked. car: vehicle, car
    assert masked_targets([DOG, 6], TREE.parent) == [[1, 0, 1, 0] + [-1234] * 4, [0, 1] + [-1234] * 4 + [1, 0]]
    torch.manual_seed(0)
    outputs, labels = torch.randn(8, 8), torch.arange(8)
    masked = masked_cross_entropy(outputs.tolist(), masked_targets(labels.tolist(), TREE.parent), TREE.parent)
    assert path_cross_entropy(outputs, labels, TREE).tolist() == approx(masked, rel=1e-5)


def test_a_flat_tree_is_one_softmax():
    tree = flat_tree(["dog", "cat", "car"])
    outputs = torch.tensor([[1.0, 2.0, 3.0]])
    assert absolute(conditionals(outputs, tree), tree).equal(outputs.softmax(1))
    assert path_cross_entropy(outputs, torch.tensor([2]), tree).item() == approx(
        torch.nn.functional.cross_entropy(outputs, torch.tensor([2])).item())


# ---- the two walks

def test_the_papers_walk():
    # .75 > t: animal; .6 > t: dog; .54 > t: terrier
    for threshold, answer in [(0.5, "terrier"), (0.54 + 1e-6, "dog"), (0.59, "dog"), (0.61, "animal"), (0.74, "animal"),
                              (0.76, "animal")]:             # nothing is above .76: the most probable root
        assert TREE.names[paper_walk(ABSOLUTE, TREE, threshold)] == answer


def test_darknets_walk():
    # It multiplies absolute probabilities: .75, then .75 * .6 = .45, then .45 * .54 = .243.
    for threshold, answer in [(0.5, "animal"), (0.46, "animal"), (0.44, "dog"), (0.4, "dog"), (0.25, "dog"),
                              (0.24, "terrier"), (0.76, "animal")]:
        assert TREE.names[darknet_walk(ABSOLUTE, TREE, threshold)] == answer


def test_how_deep_the_two_walks_go():
    # A chain of 40 nodes, each with a sibling, every conditional .98. The paper: .98^k > .5 for k <= 34. Darknet:
    # .98^(k (k + 1) / 2) > .5 for k <= 7.
    names, parent = ["a0", "b0"], [-1, -1]
    for level in range(1, 40):
        names += [f"a{level}", f"b{level}"]
        parent += [2 * level - 2] * 2
    tree = make_tree(names, parent)
    p = absolute(torch.tensor([0.98, 0.02] * 40), tree)
    assert len(path_to_root(tree, paper_walk(p, tree, 0.5))) == 34 and 0.98 ** 34 > 0.5 > 0.98 ** 35
    assert len(path_to_root(tree, darknet_walk(p, tree, 0.5))) == 7 and 0.98 ** 28 > 0.5 > 0.98 ** 36


# ---- building a tree

def test_a_tree_of_a_graph():
    # A dog is a carnivore (dog, carnivore, animal) and a domestic animal (dog, domestic, animal). Fox has one path and
    # comes first; it brings carnivore and animal. Then the path of dog by way of carnivore adds one edge, the other one
    # two: domestic is not in the tree. Terrier comes below dog, wherever dog is.
    hypernyms = {"fox": ["carnivore"], "carnivore": ["animal"], "domestic": ["animal"],
                 "dog": ["domestic", "carnivore"], "terrier": ["dog"]}
    assert paths_of("terrier", hypernyms) == [["terrier", "dog", "domestic", "animal"],
                                              ["terrier", "dog", "carnivore", "animal"]]
    tree = build_tree(["terrier", "dog", "fox"], hypernyms)
    assert tree.names == ["animal", "carnivore", "fox", "dog", "terrier"] and tree.parent == [-1, 0, 1, 1, 3]
    # Without the fox both paths add two edges: the first one is taken.
    tree = build_tree(["dog"], hypernyms)
    assert tree.names == ["animal", "domestic", "dog"]


def test_three_edges_or_one():
    # The paper's example: "one path would add three edges to our tree and the other would only add one edge".
    hypernyms = {"x": ["p", "q"], "p": ["r"], "r": ["root"], "q": ["root"], "y": ["q"]}
    tree = build_tree(["x", "y"], hypernyms)                 # x p r root: 3 new edges; x q root: 1, because y brought q
    assert dict(zip(tree.names, tree.parent)) == {"root": -1, "q": 0, "y": 1, "x": 1}
    # The name that grows the tree least comes first: b, by b, q2 and root. Then q2 and root are there, and a adds two
    # edges over q, three over p. If a came first, it would take the first of two ways of four nodes, the one over p.
    hypernyms = {"a": ["p", "q"], "p": ["p2"], "q": ["q2"], "p2": ["root"], "q2": ["root"], "b": ["q2", "u"],
                 "u": ["v"], "v": ["root"]}
    assert paths_of("a", hypernyms) == [["a", "p", "p2", "root"], ["a", "q", "q2", "root"]]
    tree = build_tree(["a", "b"], hypernyms)
    above = {name: tree.names[parent] for name, parent in zip(tree.names, tree.parent) if parent >= 0}
    assert above == {"q2": "root", "b": "q2", "q": "q2", "a": "q"}


def test_of_equal_ones_the_first_comes_first():
    # b and a both add two edges, over p or q. b comes first and takes its first way, over p; then p is there for a.
    hypernyms = {"b": ["p", "q"], "a": ["q", "p"], "p": ["root"], "q": ["root"]}
    assert build_tree(["b", "a"], hypernyms).names == ["root", "p", "b", "a"]
    assert build_tree(["a", "b"], hypernyms).names == ["root", "q", "a", "b"]


def test_a_built_tree_has_the_invariants_of_the_file():
    # A random graph of 300 names, each with up to three names above it.
    rng = random.Random(1)
    hypernyms = {f"n{i}": [f"n{rng.randrange(max(i // 3, 1))}" for _ in range(rng.choice([1, 1, 1, 2, 3]))]
                 for i in range(1, 300)}
    names = [f"n{i}" for i in range(150, 300)]
    tree = build_tree(names, hypernyms)                      # make_tree checks the order of the lines
    assert set(names) <= set(tree.names) and len(set(tree.names)) == len(tree.names)
    for name, above in zip(tree.names, tree.parent):
        assert above == -1 and name not in hypernyms or tree.names[above] in hypernyms[name]
