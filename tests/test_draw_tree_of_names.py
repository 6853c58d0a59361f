"""
Where shared/draw_tree_of_names.py puts the names of this tree. Its leaves are, from top to bottom, terrier, retriever,
cat and bus, on the lines 0 to 3; fish, a root without children, is on line 4.

    animal -----+- dog -+- terrier      line 0       dog: (0 + 1) / 2 = .5
                |       +- retriever    line 1       animal: (.5 + 2) / 2 = 1.25
                +- cat                  line 2
    vehicle ----+- bus                  line 3       vehicle: 3
    fish                                line 4
"""
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from shared.draw_tree_of_names import BEND, draw_tree_of_names, nodes_below, places

NAMES = "animal vehicle fish dog cat bus terrier retriever".split()
PARENT = [-1, -1, -1, 0, 0, 1, 3, 3]
PLACES = [(0, 1.25), (0, 3), (0, 4), (1, 0.5), (1, 2), (1, 3), (2, 0), (2, 1)]


@pytest.fixture
def axes():
    figure = Figure(figsize=(4, 4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.subplots()


def texts(axes):
    return {text.get_text(): text.get_position() for text in axes.texts}


def test_each_leaf_has_a_line_and_a_parent_is_in_the_middle():
    assert places(PARENT) == PLACES


def test_what_is_below_a_node():
    assert nodes_below(PARENT, 0) == [0, 3, 4, 6, 7] and nodes_below(PARENT, 3) == [3, 6, 7]
    assert nodes_below(PARENT, 2) == [2]


def test_the_whole_tree_is_drawn(axes):
    draw_tree_of_names(axes, NAMES, PARENT)
    assert texts(axes) == dict(zip(NAMES, PLACES))
    # A line for each node that is no root. From animal to dog: right along animal's line, up, right to dog.
    assert len(axes.lines) == 5
    assert axes.lines[0].get_xydata().tolist() == [[0, 1.25], [1 - BEND, 1.25], [1 - BEND, 0.5], [1, 0.5]]
    assert axes.get_ylim() == (4.7, -0.7)                                    # the first line is at the top


def test_a_part_of_the_tree_in_colours(axes):
    colours = ["red" if name == "cat" else "white" for name in NAMES]
    draw_tree_of_names(axes, NAMES, PARENT, colours, nodes_below(PARENT, 3))
    assert set(texts(axes)) == {"dog", "terrier", "retriever"}
    assert len(axes.lines) == 2                              # none from dog to animal, which is not drawn
    assert axes.get_xlim() == pytest.approx((0.95, 2.95)) and axes.get_ylim() == (1.7, -0.7)
    draw_tree_of_names(axes, NAMES, PARENT, colours)
    backgrounds = {text.get_text(): text.get_bbox_patch().get_facecolor()[:3] for text in axes.texts}
    assert backgrounds["cat"] == (1, 0, 0) and backgrounds["dog"] == (1, 1, 1)


def test_no_name_covers_another(axes):
    draw_tree_of_names(axes, NAMES, PARENT)
    axes.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])
