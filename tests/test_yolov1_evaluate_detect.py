"""A network that answers what the loss asks for has to be measured as perfect; boxes come back in image pixels."""
import json

import numpy as np
import pytest
import torch
from PIL import Image

import yolov1.detect as detect
import yolov1.evaluate as evaluate
from shared.checkpoint import load_checkpoint, save_checkpoint
from shared.errors import InputError
from shared.metrics import mean_ap, voc_ap
from shared.voc import CLASSES, Annotation, read_split
from yolov1.dataset import TEST, TRAIN, DetectionDataset
from yolov1.loss import assign
from yolov1.model import YOLOv1

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def annotations():
    return [a for folder, split in TEST for a in read_split(folder, split, CLASSES)]


class Oracle(torch.nn.Module):
    """Answers image after image with the output that decodes into its objects, as far as the loss asks for them."""

    def __init__(self, annotations, grid):
        super().__init__()
        self.grid = grid
        self.targets = iter([DetectionDataset(annotations, 64)[i][1] for i in range(len(annotations))])

    def forward(self, images):
        output = torch.zeros(len(images), self.grid, self.grid, 30)
        targets = torch.cat([torch.nn.functional.pad(next(self.targets), (1, 0), value=i) for i in range(len(images))])
        (*cell, box), owner, _, _ = assign(output, targets)
        output[*cell] = torch.nn.functional.one_hot(targets[owner, 1].long(), 30).float()
        output[..., 20:22][*cell, box] = 1
        offset = targets[owner, 2:4] * self.grid - torch.stack([cell[2], cell[1]], -1)
        output[..., 22:].unflatten(3, (2, 4))[*cell, box] = torch.cat([offset, targets[owner, 4:6].sqrt()], 1)
        return output


def test_a_perfect_network_is_measured_as_perfect(annotations):
    # On 7 x 7 cells no two objects of these images share a cell.
    detections, accuracies = evaluate.detect_all(Oracle(annotations, 7), annotations, 64, 2, CPU, workers=0)
    truths = evaluate.truths_of(annotations)
    easy = truths[truths[:, 6] == 0]
    assert len(truths) == sum(len(a.boxes) for a in annotations) and len(detections) == len(easy)
    for truth in easy:                                                    # in pixels of the photographs
        same = detections[(detections[:, 0] == truth[0]) & (detections[:, 1] == truth[1])]
        assert np.abs(same[:, 3:] - truth[2:6]).max(1).min() < 0.05
    assert mean_ap(voc_ap(detections, truths, 20)) == 1
    assert accuracies == {"class": 1, "object": 1, "no_object": 1}


@pytest.mark.parametrize("grid", [2, 3, 4])
def test_a_perfect_network_reaches_the_ceiling_and_no_more(grid):
    train = [a for folder, split in TRAIN for a in read_split(folder, split, CLASSES)]
    detections, _ = evaluate.detect_all(Oracle(train, grid), train, 64, 2, CPU, workers=0)
    truths, possible = evaluate.truths_of(train), evaluate.one_object_per_cell(train, grid)
    assert len(detections) == len(possible) < (truths[:, 6] == 0).sum()
    assert mean_ap(voc_ap(detections, truths, 20)) == pytest.approx(mean_ap(voc_ap(possible, truths, 20)))


def test_one_object_per_cell_by_hand():
    # Two images of 100 x 50 and 50 x 100, 2 x 2 cells. In the first: a difficult object in the upper left cell keeps no
    # cell; a cow, centre (20, 10), does; a dog, centre (40, 20), comes too late; a cat with its centre on the line
    # between columns, (50, 10), belongs to the right one. In the second a sheep with its centre in the last corner; a
    # dog in the same cell comes too late.
    one = Annotation("a.jpg", 100, 50, np.array([[0.0, 0, 20, 20], [10, 0, 30, 20], [30, 10, 50, 30], [40, 0, 60, 20]]),
                     np.array([0, 9, 11, 7]), np.array([True, False, False, False]))
    two = Annotation("b.jpg", 50, 100, np.array([[50.0, 100, 50, 100], [40, 80, 50, 100]]), np.array([16, 11]),
                     np.zeros(2, bool))
    assert evaluate.one_object_per_cell([one, two], 2).tolist() == [
        [0, 9, 1, 10, 0, 30, 20], [0, 7, 1, 40, 0, 60, 20], [1, 16, 1, 50, 100, 50, 100]]
    # With 3 x 3 cells of 33.3 x 16.7 the dog, column 1, row 1, has a cell to itself.
    assert evaluate.one_object_per_cell([one], 3)[:, 1].tolist() == [9, 11, 7]
    # One class of four objects each, one of them kept: its AP is 1 / 4, the three other classes have none.
    truths = evaluate.truths_of([one])
    assert mean_ap(voc_ap(evaluate.one_object_per_cell([one], 1), truths, 20)) == pytest.approx(1 / 3)


def test_the_three_accuracies_by_hand(annotations):
    # A network that says .5 everywhere: of equal probabilities argmax takes class 0's; .5 is not above .5. Its boxes
    # are .25 of the image, from (.5 + col) / 2 - .125 on: (.125, .375) and (.625, .875), all within the image; all
    # scores are .25.
    class Half(torch.nn.Module):
        def forward(self, images):
            return torch.full((len(images), 2, 2, 30), 0.5)
    detections, accuracies = evaluate.detect_all(Half(), annotations[:1], 64, 2, CPU, workers=0)
    easy = DetectionDataset(annotations[:1], 64)[0][1]
    kept = assign(torch.zeros(1, 2, 2, 30), torch.nn.functional.pad(easy, (1, 0)))[1]
    assert accuracies == {"class": pytest.approx((easy[kept, 0] == 0).float().mean().item()), "object": 0,
                          "no_object": 1}
    width, height = annotations[0].width, annotations[0].height
    assert len(detections) == 20 * 4 and (detections[:, 2] == 0.25).all()
    assert detections[:, 3:5].min(0).tolist() == [0.125 * width, 0.125 * height]
    assert detections[:, 5:].max(0).tolist() == [0.875 * width, 0.875 * height]


def test_boxes_are_cut_off_where_the_image_ends(annotations):
    class Huge(torch.nn.Module):
        def forward(self, images):
            return torch.full((len(images), 1, 1, 30), 2.0)               # centre (2, 2), 4 x 4: from 0 to 4
    detections, _ = evaluate.detect_all(Huge(), annotations[:1], 64, 2, CPU, workers=0)
    assert (detections[:, 3:] == [0, 0, annotations[0].width, annotations[0].height]).all()


def test_truths_by_hand():
    # The first image has no objects, the second a difficult cow and a dog: one row each, the difficult one too.
    first = Annotation("a.jpg", 100, 50, np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool))
    second = Annotation("b.jpg", 90, 60, np.array([[1.0, 2, 30, 40], [5, 6, 70, 50]]), np.array([9, 11]),
                        np.array([True, False]))
    assert evaluate.truths_of([first, second]).tolist() == [[1, 9, 1, 2, 30, 40, 1], [1, 11, 5, 6, 70, 50, 0]]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "last.pt"
    torch.manual_seed(0)
    network = YOLOv1(20, grid=1)
    with torch.no_grad():                                                 # sure of everything: something to write down
        network.detect[8].bias[:20] = 1
        network.detect[8].bias[20:22] = 0.9
        network.detect[8].bias[22:] = 0.5
    save_checkpoint(path, {"network": "YOLOv1", "classes": CLASSES, "boxes": 2, "size": 64, "step": 1,
                           "batch_norm": False, "model": network.state_dict()})
    return path


def test_evaluate_runs(checkpoint, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "CHECKPOINT", checkpoint)
    monkeypatch.setattr(evaluate, "DATA", {"test": TEST})
    monkeypatch.setattr(evaluate, "NUM_WORKERS", 0)
    evaluate.main()
    out = checkpoint.parent / "evaluation" / "test"
    printed = capsys.readouterr().out
    # 1 x 1 cell: the first object of each of the 8 images keeps it.
    for words in ("test: 8 images", "aeroplane", "mean", "COCO", "at confidence", "accuracies", "the ceiling",
                  "8 of 26 objects keep their cell"):
        assert words in printed
    assert len(list((out / "padilla" / "detections").iterdir())) == 8
    assert (out / "precision_recall.png").stat().st_size > 0
    truths = json.loads((out / "truths.json").read_text())
    assert len(truths["images"]) == 8 and len(json.loads((out / "detections.json").read_text())) > 0


def test_detect_writes_boxes_in_pixels_of_the_image(checkpoint, tmp_path, monkeypatch, capsys):
    # One box, (0.25, 0.5, 0.75, 0.75) of the image, stretched or not: (50, 50, 150, 75) of 200 x 100. Score .3 of dog;
    # .2 of cat, no more than the threshold, is not enough.
    Image.new("RGB", (200, 100)).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"damaged")                          # named, and the others are not lost with it
    scores = torch.zeros(1, 1, 20)
    scores[0, 0, 11], scores[0, 0, 7] = 0.3, 0.2
    for name, value in [("CHECKPOINT", checkpoint), ("SOURCE", tmp_path), ("OUT", tmp_path / "out"),
                        ("decode", lambda output, boxes: (torch.tensor([[[0.25, 0.5, 0.75, 0.75]]]), scores))]:
        monkeypatch.setattr(detect, name, value)
    detect.main()
    lines = (tmp_path / "out" / "detections.txt").read_text().splitlines()
    assert lines[1:] == ["a.jpg\tdog\t0.3000\t50.0\t50.0\t150.0\t75.0"]
    assert np.asarray(Image.open(tmp_path / "out" / "a.jpg")).shape == (100, 200, 3)
    printed = capsys.readouterr()
    assert "b.jpg: cannot be read" in printed.out and "1 images at 64 x 64 on cpu, median milliseconds" in printed.out


def test_detect_runs_with_the_network_itself(checkpoint, tmp_path, monkeypatch):
    source = TEST[0][0] / "JPEGImages" / "000017.jpg"
    for name, value in [("CHECKPOINT", checkpoint), ("SOURCE", source), ("OUT", tmp_path)]:
        monkeypatch.setattr(detect, name, value)
    detect.main()
    assert {path.name for path in tmp_path.iterdir()} == {"000017.jpg", "detections.txt"}
    assert len((tmp_path / "detections.txt").read_text().splitlines()) > 1


def test_a_wrong_checkpoint_or_source_is_one_line(checkpoint, tmp_path, monkeypatch):
    other = tmp_path / "other.pt"
    save_checkpoint(other, {"network": "YOLOv3"})
    monkeypatch.setattr(detect, "CHECKPOINT", other)
    with pytest.raises(InputError, match="other.pt: holds YOLOv3, not YOLOv1 or YOLOv1Tiny or ResNetYOLOv1"):
        detect.main()
    monkeypatch.setattr(detect, "CHECKPOINT", checkpoint)
    monkeypatch.setattr(detect, "SOURCE", tmp_path / "nowhere")
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        detect.main()
    (tmp_path / "damaged.jpg").write_bytes(b"damaged")
    monkeypatch.setattr(detect, "SOURCE", tmp_path / "damaged.jpg")
    with pytest.raises(InputError, match="damaged.jpg: holds no image that can be read"):
        detect.main()
    state = load_checkpoint(checkpoint, "YOLOv1")
    save_checkpoint(other, {**state, "classes": CLASSES[:3]})
    monkeypatch.setattr(detect, "CHECKPOINT", other)
    with pytest.raises(InputError, match="other.pt: not weights of this network"):
        detect.main()
