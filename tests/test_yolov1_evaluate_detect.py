"""A network that answers what the loss asks for has to be measured as perfect; boxes come back in image pixels."""
import json
from math import sqrt

import numpy as np
import pytest
import torch
from PIL import Image

import yolov1.detect as detect
import yolov1.evaluate as evaluate
from shared.checkpoint import load_checkpoint, save_checkpoint
from shared.errors import InputError
from shared.metrics import mean_ap, voc_ap
from shared.report import truths_of
from shared.voc import CLASSES, Annotation, read_split
from yolov1.dataset import TEST, TRAIN, DetectionDataset
from yolov1.loss import assign
from yolov1.tiny.model import YOLOv1Tiny

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
        slots, objects, _, _ = assign(output, targets)
        for (image, row, col, box), n in zip(slots.tolist(), objects.tolist()):
            _, label, x, y, w, h = targets[n].tolist()
            numbers = torch.tensor([x * self.grid - col, y * self.grid - row, sqrt(w), sqrt(h)])
            output[image, row, col, int(label)] = 1
            output[image, row, col, 20 + box] = 1
            output[image, row, col, 22 + 4 * box:26 + 4 * box] = numbers
        return output


def test_a_perfect_network_is_measured_as_perfect(annotations):
    # On 7 x 7 cells no two objects of these images share a cell.
    detections, accuracies = evaluate.detect_all(Oracle(annotations, 7), annotations, 64, 2, CPU, workers=0)
    truths = truths_of(annotations)
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
    truths = truths_of(train)
    assert len(detections) == len(evaluate.one_object_per_cell(train, grid)) < (truths[:, 6] == 0).sum()
    assert mean_ap(voc_ap(detections, truths, 20)) == pytest.approx(evaluate.ceiling(train, CLASSES, grid))


def test_one_object_per_cell_by_hand():
    # Two images of 100 x 50 and 50 x 100, 2 x 2 cells. In the first there are
    #   a difficult object in the upper left cell: it does not keep the cell;
    #   a cow, centre (20, 10), in the same cell: it keeps it;
    #   a dog, centre (40, 20), in the same cell: it comes too late;
    #   a cat, centre (50, 10), on the line between the columns: it belongs to the right one.
    # In the second there are a sheep, with its centre in the last corner, and a dog in the same cell: too late.
    one = Annotation("a.jpg", 100, 50, np.array([[0.0, 0, 20, 20], [10, 0, 30, 20], [30, 10, 50, 30], [40, 0, 60, 20]]),
                     np.array([0, 9, 11, 7]), np.array([True, False, False, False]))
    two = Annotation("b.jpg", 50, 100, np.array([[50.0, 100, 50, 100], [40, 80, 50, 100]]), np.array([16, 11]),
                     np.zeros(2, bool))
    assert evaluate.one_object_per_cell([one, two], 2).tolist() == [
        [0, 9, 1, 10, 0, 30, 20], [0, 7, 1, 40, 0, 60, 20], [1, 16, 1, 50, 100, 50, 100]]
    # With 3 x 3 cells of 33.3 x 16.7 the dog, column 1, row 1, has a cell to itself.
    assert evaluate.one_object_per_cell([one], 3)[:, 1].tolist() == [9, 11, 7]
    assert evaluate.one_object_per_cell([], 3).shape == (0, 7)


def test_the_ceiling_by_hand():
    # A cow, a dog and a cat, and 1 x 1 cell: the cow, the first one, keeps it. Three classes have objects that count.
    # The cow's AP is 1, those of the dog and the cat are 0. Their mean is (1 + 0 + 0) / 3 = 1/3. The difficult
    # aeroplane is not counted; if it were, the mean would be 1/4.
    one = Annotation("a.jpg", 100, 50, np.array([[0.0, 0, 20, 20], [10, 0, 30, 20], [30, 10, 50, 30], [40, 0, 60, 20]]),
                     np.array([0, 9, 11, 7]), np.array([True, False, False, False]))
    aps = voc_ap(evaluate.one_object_per_cell([one], 1), truths_of([one]), 20)
    assert [aps[label] for label in (9, 11, 7)] == [1, 0, 0] and np.isnan(aps[0])
    assert evaluate.ceiling([one], CLASSES, 1) == pytest.approx(1 / 3)
    # On 3 x 3 cells all three keep one: the ceiling is 1.
    assert evaluate.ceiling([one], CLASSES, 3) == 1


def test_the_three_accuracies_by_hand(tmp_path):
    # 2 x 2 cells, and a network that says the same in each: the probabilities are 0.7 for class 9, 0.2 for class 11 and
    # 0 for the others, the confidences 0.6 and 0.3. Both boxes are 0.25^2 = 0.0625 wide and high, in the middle of
    # the cell. Box 1 is the same box as box 0. Of equal boxes, the first is responsible.
    #   class      A cow (9) and a dog (11), in different cells: 1 of 2 is right.
    #   object     Both responsible boxes have a confidence of 0.6 > 0.5: 2 of 2.
    #   no_object  Of the six others, box 0 of the two empty cells has 0.6, four have 0.3: 4 of 6.
    Image.new("RGB", (100, 50)).save(tmp_path / "a.png")
    annotation = Annotation(tmp_path / "a.png", 100, 50, np.array([[10.0, 5, 40, 20], [60, 30, 90, 45]]),
                            np.array([9, 11]), np.zeros(2, bool))

    class Same(torch.nn.Module):
        def forward(self, images):
            output = torch.zeros(len(images), 2, 2, 30)
            output[..., 9], output[..., 11] = 0.7, 0.2
            output[..., 20], output[..., 21] = 0.6, 0.3
            output[..., 22:] = torch.tensor([0.5, 0.5, 0.25, 0.25] * 2)
            return output
    detections, accuracies = evaluate.detect_all(Same(), [annotation], 64, 2, CPU, workers=0)
    assert accuracies == {"class": 1 / 2, "object": 1, "no_object": pytest.approx(4 / 6)}
    # NMS leaves box 0 of each cell, for two classes: scores 0.7 0.6 = 0.42 and 0.2 0.6 = 0.12. The first box is in the
    # middle of its cell, 0.25 of 100 x 50 pixels, so centre (25, 12.5), size 6.25 x 3.125.
    assert sorted(detections[:, 2].round(6).tolist()) == [0.12] * 4 + [0.42] * 4
    first = detections[np.lexsort((detections[:, 4], detections[:, 3], detections[:, 1]))][0]
    assert first.tolist() == pytest.approx([0, 9, 0.42, 25 - 3.125, 12.5 - 1.5625, 25 + 3.125, 12.5 + 1.5625])


def test_boxes_are_cut_off_where_the_image_ends(annotations):
    class Huge(torch.nn.Module):
        def forward(self, images):
            return torch.full((len(images), 1, 1, 30), 2.0)               # centre (2, 2), 4 x 4: from 0 to 4
    detections, _ = evaluate.detect_all(Huge(), annotations[:1], 64, 2, CPU, workers=0)
    assert (detections[:, 3:] == [0, 0, annotations[0].width, annotations[0].height]).all()


def test_an_evaluation_leaves_the_network_as_it_was(annotations):
    # In training mode, batch statistics would be used, and these images would enter the running averages.
    torch.manual_seed(0)
    network = YOLOv1Tiny(20, grid=1).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    evaluate.detect_all(network, annotations[:2], 64, 2, CPU, workers=0)
    assert all(value.equal(before[key]) for key, value in network.state_dict().items())


def test_what_is_measured_during_a_training(annotations, tmp_path, monkeypatch):
    # At most MAX_TRAIN_EVALUATED images of TRAIN, all of TEST, and pictures of the first PICTURES of both.
    train = [a for folder, split in TRAIN for a in read_split(folder, split, CLASSES)]
    drawn = []
    monkeypatch.setattr(evaluate, "MAX_TRAIN_EVALUATED", 3)
    monkeypatch.setattr(evaluate, "PICTURES", 2)
    monkeypatch.setattr(evaluate, "write_sheet", lambda path, pictures, columns: drawn.append((path, len(pictures))))
    row = evaluate.measure(Oracle(train[:3] + annotations, 7), train, annotations, CLASSES, 2, 64, CPU, 0, "sheet.jpg")
    assert row == {"AP50 train": 1, "AP50 test": 1, **dict.fromkeys(evaluate.ACCURACIES, 1)}
    assert drawn == [("sheet.jpg", 4)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "last.pt"
    torch.manual_seed(0)
    network = YOLOv1Tiny(20, grid=1)
    with torch.no_grad():                                                 # sure of everything: something to write down
        network.detect[2].weight.mul_(0.1)
        network.detect[2].bias[:20] = 1
        network.detect[2].bias[20:22] = 0.9
        network.detect[2].bias[22:] = 0.5
    save_checkpoint(path, {"network": "YOLOv1Tiny", "classes": CLASSES, "boxes": 2, "size": 64, "step": 1,
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
    for words in ("last.pt, YOLOv1Tiny, step 1, input 64 x 64", "test: 8 images", "aeroplane", "mean", "COCO",
                  "at confidence", "accuracies", "the ceiling", "8 of 26 objects keep their cell"):
        assert words in printed
    assert len(list((out / "padilla" / "detections").iterdir())) == 8
    assert (out / "precision_recall.png").stat().st_size > 0
    truths = json.loads((out / "truths.json").read_text())
    assert len(truths["images"]) == 8 and len(json.loads((out / "detections.json").read_text())) > 0


def test_detect_writes_boxes_in_pixels_of_the_image(checkpoint, tmp_path, monkeypatch, capsys):
    # One box, (0.25, 0.5, 0.75, 0.75) of the image, stretched or not: (50, 50, 150, 75) of 200 x 100. Score 0.3 of dog;
    # 0.2 of cat, no more than the threshold, is not enough.
    Image.new("RGB", (200, 100)).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"damaged")                          # named, and the others are not lost with it
    scores = torch.zeros(1, 1, 20)
    scores[0, 0, 11], scores[0, 0, 7] = 0.3, 0.2
    for name, value in [("CHECKPOINT", checkpoint), ("SOURCE", tmp_path), ("OUT", tmp_path / "out"),
                        ("decode", lambda output, num_boxes: (torch.tensor([[[0.25, 0.5, 0.75, 0.75]]]), scores))]:
        monkeypatch.setattr(detect, name, value)
    detect.main()
    lines = (tmp_path / "out" / "detections.txt").read_text().splitlines()
    assert lines[1:] == ["a.jpg\tdog\t0.3000\t50.0\t50.0\t150.0\t75.0"]
    assert np.asarray(Image.open(tmp_path / "out" / "a.jpg")).shape == (100, 200, 3)
    printed = capsys.readouterr()
    assert "b.jpg: cannot be read" in printed.out and "1 images at 64 x 64 on cpu, median milliseconds" in printed.out


def test_detect_runs_with_the_network_itself(checkpoint, tmp_path, monkeypatch):
    # The same image twice, with another between them: the network is in evaluation mode, so the lines are the same.
    image = read_split(*TEST[0], CLASSES)[0].image
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "c.jpg"):
        (tmp_path / "in" / name).write_bytes(image.read_bytes())
    Image.new("RGB", (64, 64), "red").save(tmp_path / "in" / "b.jpg")
    for name, value in [("CHECKPOINT", checkpoint), ("SOURCE", tmp_path / "in"), ("OUT", tmp_path)]:
        monkeypatch.setattr(detect, name, value)
    detect.main()
    assert {path.name for path in tmp_path.iterdir()} == {"in", "a.jpg", "b.jpg", "c.jpg", "detections.txt"}
    lines = [line.split("\t") for line in (tmp_path / "detections.txt").read_text().splitlines()[1:]]
    first, last = ([line[1:] for line in lines if line[0] == name] for name in ("a.jpg", "c.jpg"))
    assert len(first) > 0 and first == last


def test_a_wrong_checkpoint_or_source_is_one_line(checkpoint, tmp_path, monkeypatch):
    other = tmp_path / "other.pt"
    save_checkpoint(other, {"network": "YOLOv3"})
    monkeypatch.setattr(detect, "CHECKPOINT", other)
    with pytest.raises(InputError, match="other.pt: holds YOLOv3, not YOLOv1 or "):
        detect.main()
    monkeypatch.setattr(detect, "CHECKPOINT", checkpoint)
    monkeypatch.setattr(detect, "SOURCE", tmp_path / "nowhere")
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        detect.main()
    (tmp_path / "damaged.jpg").write_bytes(b"damaged")
    monkeypatch.setattr(detect, "SOURCE", tmp_path / "damaged.jpg")
    with pytest.raises(InputError, match="damaged.jpg: holds no image that can be read"):
        detect.main()
    state = load_checkpoint(checkpoint, "YOLOv1Tiny")
    save_checkpoint(other, {**state, "classes": CLASSES[:3]})
    monkeypatch.setattr(detect, "CHECKPOINT", other)
    with pytest.raises(InputError, match="other.pt: not weights of this network"):
        detect.main()
