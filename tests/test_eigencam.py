"""The first principal component of activations made by hand, its sign, and where the map is on the photograph."""
import numpy as np
import pytest
import torch
from PIL import Image

import yolov3.eigencam as eigencam
from shared.checkpoint import save_checkpoint
from shared.errors import InputError
from shared.voc import CLASSES
from yolov3.model import ANCHORS, YOLOv3

# 3 x 3 cells with two channels. Seven cells are (1, 1). The other two are (4, 5) and (2.5, 3), on a line from (1, 1) in
# the direction of (3, 4) / 5, at distances of 5 and 2.5. The mean distance of the nine cells is 7.5 / 9 = 5/6. Less the
# mean the distances are 25/6, 10/6 and, of the seven, -5/6. Divided by the largest: 1, .4 and, because negative, 0.
SALIENT = torch.ones(2, 3, 3)
SALIENT[:, 0, 2] = torch.tensor([4.0, 5.0])
SALIENT[:, 1, 1] = torch.tensor([2.5, 3.0])


def test_the_first_component_by_hand():
    expected = torch.zeros(3, 3)
    expected[0, 2], expected[1, 1] = 1, 0.4
    assert torch.allclose(eigencam.first_component(SALIENT), expected, atol=1e-4)


def test_without_centring_as_the_paper(monkeypatch):
    # A matrix of rank one: the map s times the channels c. Then the component is s, whatever c is.
    monkeypatch.setattr(eigencam, "CENTRE", False)
    s = torch.tensor([[0.25, 1.0], [0.5, 0.0]])
    assert torch.allclose(eigencam.first_component(s * torch.tensor([2.0, -3.0, 6.0])[:, None, None]), s, atol=1e-6)


def test_the_sign_is_not_left_to_chance(monkeypatch):
    # -O has the same singular vectors as O. For O itself a library may return v_1 or -v_1.
    expected = eigencam.first_component(SALIENT)
    assert torch.allclose(eigencam.first_component(-SALIENT), expected, atol=1e-5)
    svd = torch.linalg.svd

    def negated(O, full_matrices):
        U, S, Vh = svd(O, full_matrices)
        return torch.return_types.linalg_svd((-U, S, -Vh))

    monkeypatch.setattr(torch.linalg, "svd", negated)
    assert torch.allclose(eigencam.first_component(SALIENT), expected, atol=1e-5)


def test_equal_cells_give_no_map():
    assert eigencam.first_component(torch.ones(4, 3, 3)).eq(0).all()


def test_the_map_is_in_the_right_place_on_the_photograph():
    # The letterbox of 64 x 64 has 4 x 4 cells. An image of 200 x 100 fills its rows 16 to 48. So the cell in row 1,
    # column 3 covers columns 150 to 200 and rows 0 to 50 of the image.
    saliency = torch.zeros(4, 4)
    saliency[1, 3] = 1
    picture = eigencam.over_image(saliency, np.zeros((100, 200, 3), np.uint8), 64)
    red = picture[..., 0].astype(int) - picture[..., 2]                  # turbo: blue at 0, red at 1
    y, x = np.unravel_index(red.argmax(), red.shape)
    assert picture.shape == (100, 200, 3) and 165 <= x < 200 and 5 <= y < 45
    assert (red[60:, :100] < 0).all()


def test_pictures_of_a_network(tmp_path, monkeypatch):
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "last.pt", {"network": "YOLOv3", "classes": CLASSES, "anchors": ANCHORS, "size": 64,
                                           "step": 1, "model": YOLOv3(20).state_dict()})
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 80, 3), np.uint8)).save(tmp_path / "a.png")
    for name, file in [("CHECKPOINT", "last.pt"), ("SOURCE", "a.png"), ("OUT", "out")]:
        monkeypatch.setattr(eigencam, name, tmp_path / file)
    eigencam.main()
    assert Image.open(tmp_path / "out" / "a.png").size == (4 * 320, 320)
    monkeypatch.setattr(eigencam, "CHECKPOINT", tmp_path / "none.pt")
    with pytest.raises(InputError, match="none.pt"):
        eigencam.main()
