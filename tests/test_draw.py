"""
What shared/draw.py and shared/draw_network.py draw: which pixels have a box's colour, and where on the axes the boxes,
cells, names, curves, blocks and arrows are.

The image of the second half is one unit wide and high. In 4 columns and 2 rows a cell is 1/4 wide and 1/2 high.
"""
import numpy as np
import pytest
import torch
import torch.nn as nn
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from shared.draw import (class_colour, draw_boxes, draw_grid, draw_targets, fill_cells, label_colour, outline_boxes,
                         plot_precision_recall, plot_terms, show_detections, show_image, show_map, show_roles,
                         write_name, write_sheet)
from shared.draw_network import HEIGHT, WIDTH, draw_network, output_shapes
from shared.metrics import average_precision

GREY = torch.full((3, 2, 4), 0.5)


@pytest.fixture
def axes():
    figure = Figure(figsize=(4, 4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.subplots()


def rectangles(axes):
    """The rectangles on the axes: left, top, width, height"""
    return [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in axes.patches]


# ---- pictures for files

def test_every_class_has_a_colour_of_its_own():
    colours = np.array([class_colour(label) for label in range(80)])
    assert colours.min() >= 0 and colours.max() <= 255 and len({tuple(colour) for colour in colours}) == 80
    assert np.allclose(label_colour(torch.tensor(3)), np.array(class_colour(3)) / 255)


def test_a_box_is_drawn_on_its_outermost_pixels():
    # From 40 to 160 across and from 50 to 90 down the pixels are those in columns 40 to 159 and rows 50 to 89.
    image = np.zeros((100, 200, 3), np.uint8)
    picture = draw_boxes(image, [(0, 1, 40, 50, 160, 90)], ["cat"])
    drawn = (picture == class_colour(0)).all(2)
    assert drawn[50:90, [40, 159]].all() and drawn[[50, 89], 40:160].all()
    assert not drawn[:, :40].any() and not drawn[:, 160:].any() and not drawn[90:].any()
    assert not drawn[53:87, 43:157].any()                                    # the box is not filled
    assert not image.any()                                                   # the image itself is unchanged


def test_the_better_box_is_on_top_and_a_name_stays_inside():
    image = np.zeros((100, 200, 3), np.uint8)
    rows = [(0, 0.9, 40, 50, 160, 90), (1, 0.3, 40, 50, 160, 90)]
    for order in rows, rows[::-1]:
        assert (draw_boxes(image, order, ["cat", "dog"])[89, 40:160] == class_colour(0)).all()
    at_the_edge = draw_boxes(image, [(0, 0.5, 195, 0, 200, 5)], ["a long name"])
    assert (at_the_edge == class_colour(0)).all(2)[6:].any() and (at_the_edge == class_colour(0)).all(2)[:, :150].any()


def test_targets_are_fractions_of_the_image():
    # Centre (0.5, 0.75) and size (0.75, 0.25) of 160 x 80 pixels: from 20 to 140 and from 50 to 70.
    image = torch.zeros(3, 80, 160)
    picture = draw_targets(image, torch.tensor([[0, 0.5, 0.75, 0.75, 0.25]]), ["cat"])
    assert (picture == draw_boxes(np.zeros((80, 160, 3), np.uint8), [(0, 1, 20, 50, 140, 70)], ["cat"])).all()


def test_a_sheet_has_its_images_in_rows(tmp_path):
    # Three white-on-black squares in two columns of 20 pixels: the fourth cell stays white.
    write_sheet(tmp_path / "sheet.png", [np.zeros((16, 16, 3), np.uint8)] * 3, columns=2, cell=20)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))
    assert sheet.shape == (40, 40)
    assert [sheet[y, x].item() for y, x in [(10, 10), (10, 30), (30, 10), (30, 30)]] == [0, 0, 0, 255]


# ---- on axes

def test_an_image_fills_the_axes(axes):
    show_image(axes, GREY, "grey", fade=0.5)
    shown, = axes.images
    assert shown.get_extent() == [0, 1, 1, 0] and shown.get_array().shape == (2, 4, 3)
    assert np.allclose(shown.get_array(), 0.75)                              # half way from .5 to white
    assert (axes.get_xlim(), axes.get_ylim(), axes.get_title()) == ((0, 1), (1, 0), "grey")


def test_a_grid_has_a_line_on_both_sides_of_each_cell(axes):
    draw_grid(axes, columns=4, rows=2)
    vertical, horizontal = [lines.get_segments() for lines in axes.collections]
    assert [segment[0, 0] for segment in vertical] == [0, 0.25, 0.5, 0.75, 1]
    assert [segment[0, 1] for segment in horizontal] == [0, 0.5, 1]


def test_cells_and_boxes_are_where_they_belong(axes):
    fill_cells(axes, [(1, 3)], columns=4, rows=2, colour="gold")
    outline_boxes(axes, torch.tensor([[0.1, 0.2, 0.4, 0.8]]), "red", linewidth=3)
    assert np.allclose(rectangles(axes), [(0.75, 0.5, 0.25, 0.5), (0.1, 0.2, 0.3, 0.6)])
    cell, box = axes.patches
    assert cell.get_fill() and not box.get_fill() and box.get_linewidth() == 3


@pytest.mark.parametrize("box", [(0.0, 0.0, 0.2, 0.3), (0.8, 0.0, 1.0, 0.2), (-0.5, -0.5, 2, 2), (0.9, 0.9, 1.3, 1.2)])
def test_a_name_stays_inside_the_image(axes, box):
    show_image(axes, GREY)
    write_name(axes, torch.tensor(box), "pottedplant 0.99")
    axes.figure.canvas.draw()
    name, image = axes.texts[0].get_window_extent(), axes.get_window_extent()
    assert name.x0 >= image.x0 - 2 and name.x1 <= image.x1 + 2 and name.y0 >= image.y0 - 2 and name.y1 <= image.y1 + 2


def test_detections_have_their_names_and_the_best_is_on_top(axes):
    rows = torch.tensor([[1, 0.9, 0.1, 0.2, 0.4, 0.8], [0, 0.4, 0.5, 0.5, 0.9, 0.6]])
    show_detections(axes, GREY, rows, ["cat", "dog"])
    assert [text.get_text() for text in axes.texts] == ["cat 0.40", "dog 0.90"]
    assert np.allclose(rectangles(axes)[1], (0.1, 0.2, 0.3, 0.6))
    assert np.allclose(axes.patches[1].get_edgecolor()[:3], label_colour(1))
    show_detections(axes, GREY, rows, ["cat", "dog"], names=False)
    assert len(axes.texts) == 2 and len(axes.patches) == 4


def test_roles_have_their_colours(axes):
    # Anchor 0 is responsible in row 0, column 2. Both anchors are ignored in row 1, column 3, anchor 1 also in the cell
    # of the responsible predictor, where orange covers blue.
    responsible, ignored = torch.zeros(2, 2, 4, dtype=torch.bool), torch.zeros(2, 2, 4, dtype=torch.bool)
    responsible[0, 0, 2] = ignored[:, 1, 3] = ignored[1, 0, 2] = True
    show_roles(axes, responsible, ignored)
    colours = [patch.get_facecolor()[:3] for patch in axes.patches]
    assert colours == [to_rgb("royalblue"), to_rgb("royalblue"), to_rgb("darkorange")]
    assert rectangles(axes) == [(0.5, 0, 0.25, 0.5), (0.75, 0.5, 0.25, 0.5), (0.5, 0, 0.25, 0.5)]


def test_a_map_covers_the_image_and_is_transparent_at_0(axes):
    show_map(axes, GREY, torch.tensor([[0, 0.5], [1, 0]]))
    image, values = axes.images
    assert values.get_extent() == image.get_extent() == [0, 1, 1, 0]
    assert values.get_array().tolist() == [[0, 0.5], [1, 0]] and (values.norm.vmin, values.norm.vmax) == (0, 1)
    assert np.allclose(values.get_alpha(), [[0, 0.45], [0.9, 0]])


def test_each_term_of_the_loss_has_a_curve(axes):
    plot_terms(axes, [{"xy": 3, "total": 10}, {"xy": 2, "total": 5}, {"xy": 1, "total": 4}])
    xy, total = axes.lines
    assert [line.get_label() for line in axes.lines] == ["xy", "total"]
    assert list(xy.get_xdata()) == [1, 2, 3] and list(total.get_ydata()) == [10, 5, 4] and total.get_color() == "black"


def test_the_area_below_the_envelope_is_the_ap(axes):
    # The example of shared/average_precision.py: five truths, seven detections, AP = 43/70.
    recall, precision = np.array([1, 1, 2, 3, 3, 3, 4]) / 5, np.array([1, 1/2, 2/3, 3/4, 3/5, 3/6, 4/7])
    plot_precision_recall(axes, recall, precision, "AP")
    x, y = axes.collections[0].get_paths()[0].vertices.T
    area = abs((x * np.roll(y, 1) - y * np.roll(x, 1)).sum()) / 2            # of a polygon
    assert area == pytest.approx(43 / 70) == average_precision(recall, precision)
    plot_precision_recall(axes, np.array([]), np.array([]))                  # a class without detections


# ---- the diagram of a network

def test_output_shapes_are_those_of_a_forward_pass():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.MaxPool2d(2))
    before = network[1].running_mean.clone()
    shapes = output_shapes(network.train(), height=32, width=64)
    assert shapes == {"0": (8, 16, 32), "1": (8, 16, 32), "2": (8, 8, 16), "": (8, 8, 16)}
    assert network.training and not network[0]._forward_hooks and network[1].running_mean.equal(before)


def test_the_arrows_of_a_network_go_from_edge_to_edge(axes):
    blocks = {"a": (0, 0, "one", "white"), "b": (1, 0, "two", "gold"), "c": (1, 2, "three", "white")}
    draw_network(axes, blocks, [("a", "b"), ("b", "c"), ("c", "a")], {"a": (3, 8, 8), "b": (4, 4, 4), "c": (7,)})
    texts = [text for text in axes.texts if text.get_text()]
    assert [text.get_text() for text in texts] == ["one\n3 x 8 x 8", "two\n4 x 4 x 4", "three\n7"]
    arrows = [(tuple(text.xyann), tuple(text.xy)) for text in axes.texts if not text.get_text()]
    w, h = WIDTH / 2, HEIGHT / 2
    assert arrows == [((w, 0), (1 - w, 0)),                                  # to the right
                      ((1, h), (1, 2 - h)),                                  # down
                      ((1 - w, 2), (0, h))]                                  # to the left, then up into the block
    assert rectangles(axes)[1] == (1 - w, -h, WIDTH, HEIGHT)
    assert axes.get_ylim() == (2.5, -0.5)                                    # row 0 is at the top


def test_a_sheet_of_no_images_is_not_written(tmp_path):
    write_sheet(tmp_path / "sheet.jpg", [], columns=0)                       # PICTURES = 0
    assert list(tmp_path.iterdir()) == []
