"""
Videos: a clip drawn here, in which a white square moves over black, is read, written and annotated.

    frame k (from 0)   160 x 96 pixels; the square has its left upper corner at (12 k, 8 k + 20) and sides of 24
"""
import os

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import shared.video as video
import yolov1.detect
import yolov2.detect
import yolov3.detect
import yolov3.smol_svhn.detect
from shared.draw import class_colour
from shared.errors import InputError
from shared.video import add_frame, finish_video, open_source, video_path
from yolov3.smol_svhn.model import CONFIG, read_config

WIDTH, HEIGHT, SIDE, FRAMES = 160, 96, 24, 6
DETECTORS = [yolov1.detect, yolov2.detect, yolov3.detect]


def corner(k):
    return 12 * k, 8 * k + 20


def frame(k, colour=(255, 255, 255)):
    """Frame k of the clip, (96, 160, 3) uint8 RGB."""
    image, (left, top) = np.zeros((HEIGHT, WIDTH, 3), np.uint8), corner(k)
    image[top:top + SIDE, left:left + SIDE] = colour
    return image


def write_clip(path, frames, code="mp4v", fps=12.5):
    """Writes a video with OpenCV alone, without the code under test."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), fps, (WIDTH, HEIGHT))
    for image in frames:
        writer.write(image[..., ::-1].copy())                                # BGR
    writer.release()
    return path


def read_clip(path):
    """The frames of a video, (n, H, W, 3) uint8 RGB, its frames per second. Read with OpenCV alone."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        found, image = capture.read()
        if not found:
            return np.array(frames), capture.get(cv2.CAP_PROP_FPS)
        frames.append(image[..., ::-1])


@pytest.fixture
def clip(tmp_path):
    (tmp_path / "in").mkdir()
    return write_clip(tmp_path / "in" / "clip.mp4", [frame(k) for k in range(FRAMES)])


class Camera:
    """In place of cv2.VideoCapture: a camera with these frames, BGR, that says this about itself."""

    def __init__(self, frames, fps=0.0):
        self.frames, self.fps, self.released = iter(frames), fps, False

    def isOpened(self):
        return True

    def get(self, what):
        return {cv2.CAP_PROP_FPS: self.fps, cv2.CAP_PROP_FRAME_COUNT: -1.0}[what]

    def read(self):
        image = next(self.frames, None)
        return image is not None, image

    def release(self):
        self.released = True


# ---- reading

@pytest.mark.parametrize("name, code", [("clip.mp4", "mp4v"), ("CLIP.AVI", "MJPG")])
def test_the_frames_of_a_file(tmp_path, name, code):
    # The square is red. In BGR it would be blue.
    path = write_clip(tmp_path / name, [frame(k, (255, 0, 0)) for k in range(FRAMES)], code)
    images, count, fps = open_source(str(path), tmp_path / "out")
    names, frames = zip(*images)
    assert names == tuple(f"{name} frame {n}" for n in (1, 2, 3, 4, 5, 6))
    assert (count, fps) == (FRAMES, 12.5)
    for k, image in enumerate(frames):
        left, top = corner(k)
        inside = image[top + 4:top + SIDE - 4, left + 4:left + SIDE - 4].reshape(-1, 3).mean(0)
        assert image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8
        assert inside == pytest.approx([255, 0, 0], abs=25) and image[:8].max() < 60


def test_images_are_read_as_before(tmp_path, capsys):
    # The images of a folder in the order of their names, without the damaged one. A video in the folder is not read.
    Image.new("RGB", (7, 5), "red").save(tmp_path / "b.png")
    (tmp_path / "a.jpg").write_bytes(b"damaged")
    write_clip(tmp_path / "c.mp4", [frame(0)])
    images, count, fps = open_source(tmp_path, tmp_path / "out")
    (name, image), = images
    assert (name, count, fps) == ("b.png", 2, None) and (image == [255, 0, 0]).all() and image.shape == (5, 7, 3)
    assert "a.jpg: cannot be read as an image" in capsys.readouterr().out
    (_, image), = open_source(tmp_path / "b.png", tmp_path / "out")[0]
    assert image.shape == (5, 7, 3)


@pytest.mark.parametrize("says, fps", [(0.0, 30), (-1.0, 30), (float("nan"), 30), (90_000.0, 30), (15.0, 15)])
def test_a_camera_without_a_frame_rate(monkeypatch, tmp_path, says, fps):
    camera = Camera([], says)
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: camera)
    _, count, rate = open_source(0, tmp_path)
    assert (count, rate) == (None, fps)


def test_a_camera_that_stops(monkeypatch, tmp_path):
    # It has three frames. The last one is larger, and is scaled to the size of the first.
    camera, opened = Camera([frame(0), frame(1), np.full((200, 300, 3), 255, np.uint8)]), []
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: opened.append(source) or camera)
    names, frames = zip(*open_source(2, tmp_path)[0])
    assert opened == [2] and names == ("camera 2 frame 1", "camera 2 frame 2", "camera 2 frame 3")
    assert [image.shape for image in frames] == [(HEIGHT, WIDTH, 3)] * 3 and (frames[2] == 255).all()
    assert camera.released


def test_what_cannot_be_read_is_one_line(clip, tmp_path, capfd):
    # OpenCV and FFmpeg print nothing of their own.
    whole = clip.read_bytes()
    bad = tmp_path / "bad"
    bad.mkdir()
    for name, content in [("empty.mp4", b""), ("text.avi", b"hello\n" * 99), ("half.mp4", whole[:len(whole) // 2])]:
        (bad / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: cannot be read as a video") as error:
            open_source(bad / name, tmp_path / "out")
        assert "\n" not in str(error.value)
    for name, message in [("none.mp4", "no such file"), ("n" * 300 + ".mp4", "file name too long")]:
        with pytest.raises(InputError, match=f"{name}: {message}"):
            open_source(bad / name, tmp_path / "out")
    os.mkfifo(bad / "pipe.mp4")                                              # opening it would wait for ever
    with pytest.raises(InputError, match="pipe.mp4: is a pipe or a device, not a file"):
        open_source(bad / "pipe.mp4", tmp_path / "out")
    with pytest.raises(InputError, match="camera 77: cannot be opened"):
        open_source(77, tmp_path / "out")
    with pytest.raises(InputError, match="SOURCE is None; it has to be a path or the number of a camera"):
        open_source(None, tmp_path / "out")
    assert capfd.readouterr() == ("", "")


def test_a_video_without_frames_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: Camera([]))
    with pytest.raises(InputError, match="camera 0: has no frame that can be read"):
        list(open_source(0, tmp_path)[0])


def test_a_file_that_ends_early_is_reported(tmp_path, capsys):
    # An AVI file has its index at the end, and its first half can be played.
    path = write_clip(tmp_path / "clip.avi", [frame(k % 6) for k in range(20)], "MJPG")
    content = path.read_bytes()
    path.write_bytes(content[:len(content) // 2])
    images, count, _ = open_source(path, tmp_path / "out")
    n = len(list(images))
    assert 2 < n < 18 and count == 20
    assert capsys.readouterr().out == (f"{path}: ends after {n} of the 20 frames that it announces; the file may be "
                                       "damaged\n")


def test_the_results_never_replace_the_images(clip, tmp_path):
    Image.new("RGB", (7, 5)).save(tmp_path / "in" / "a.png")
    before = {path.name: path.read_bytes() for path in clip.parent.iterdir()}
    for source in clip, clip.parent, clip.parent / "a.png":
        with pytest.raises(InputError, match="is in OUT, where the results would replace it"):
            open_source(source, tmp_path / "out" / ".." / "in")
    assert {path.name: path.read_bytes() for path in clip.parent.iterdir()} == before


# ---- writing

def test_a_video_is_written_whole(tmp_path):
    # The clip appears under its name at the end, in a folder that is made. The other file of that name is replaced.
    path, clip = video_path(tmp_path / "holiday.avi", tmp_path / "new"), None
    assert path == tmp_path / "new" / "holiday.mp4" and video_path(3, "out").name == "camera3.mp4"
    for k in range(FRAMES):
        clip = add_frame(clip, path, frame(k, (0, 255, 0)), 12.5)
        assert not path.exists() and len(list(path.parent.iterdir())) == 1
    finish_video(clip, path)
    assert list(path.parent.iterdir()) == [path]
    frames, fps = read_clip(path)
    assert frames.shape == (FRAMES, HEIGHT, WIDTH, 3) and fps == 12.5
    for k, image in enumerate(frames):
        left, top = corner(k)
        assert image[top + 12, left + 12] == pytest.approx([0, 255, 0], abs=30) and image[:8].max() < 60
    finish_video(add_frame(None, path, frame(0), 30), path)
    assert len(read_clip(path)[0]) == 1
    finish_video(None, path)


def test_an_odd_size_loses_a_line(tmp_path):
    finish_video(add_frame(None, tmp_path / "odd.mp4", np.zeros((51, 77, 3), np.uint8), 30), tmp_path / "odd.mp4")
    assert read_clip(tmp_path / "odd.mp4")[0].shape == (1, 50, 76, 3)


def test_what_cannot_be_written_is_one_line(tmp_path, capfd):
    with pytest.raises(InputError, match="thin.mp4: cannot be written as a video of 1 x 20 pixels"):
        add_frame(None, tmp_path / "thin.mp4", np.zeros((20, 1, 3), np.uint8), 30)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="file/out: cannot be made"):
        add_frame(None, tmp_path / "file" / "out" / "a.mp4", frame(0), 30)
    assert capfd.readouterr() == ("", "") and os.listdir(tmp_path) == ["file"]


def test_a_full_disk_leaves_the_old_video(tmp_path, monkeypatch):
    # What OpenCV has written is cut, as on a full disk, of which OpenCV says nothing.
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    clip = add_frame(None, path, frame(0), 30)
    clip.release()
    part = video.unfinished(path)
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(InputError, match=r"clip.mp4: cannot be written \(is the disk full\?\)"):
        finish_video(clip, path)
    assert os.listdir(tmp_path) == ["clip.mp4"] and path.read_bytes() == b"old"


# ---- the detectors

class Finder(torch.nn.Module):
    """In place of a network: returns the box of what is bright in the image, as fractions of the input, (1, 1, 4)."""

    def __init__(self, interrupt_at=None):
        super().__init__()
        self.calls, self.interrupt_at = 0, interrupt_at

    def forward(self, images):
        self.calls += 1
        if self.calls == self.interrupt_at:
            raise KeyboardInterrupt
        _, _, height, width = images.shape
        bright = images[0].amin(0) > 0.7
        rows, columns = bright.any(1).nonzero(), bright.any(0).nonzero()
        box = [columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height]
        return torch.tensor(box)[None, None]


@pytest.fixture
def start(clip, tmp_path, monkeypatch, capsys):
    """A function that runs a detect.py's main() with the Finder, whose detections are dogs of score .9."""
    def run(detect, source=clip, interrupt_at=None):
        scores = torch.zeros(1, 1, 20)
        scores[0, 0, 11] = 0.9
        state = {"classes": ["other"] * 11 + ["dog"], "anchors": None, "boxes": 2, "size": 160, "stretch": False}
        for name, value in [("SOURCE", source), ("OUT", tmp_path / "out"),
                            ("load_detector", lambda path: (Finder(interrupt_at), state)),
                            ("decode", lambda output, _: (output, scores))]:
            monkeypatch.setattr(detect, name, value)
        detect.main()
        return capsys.readouterr().out
    return run


def drawn_box(image, k):
    """The first and the last column in the colour of a dog's box, in the middle rows of the square of frame k."""
    _, top = corner(k)
    band = image[top + 8:top + SIDE - 8].astype(int)
    columns = (abs(band - class_colour(11)).max(2) < 90).all(0).nonzero()[0]
    return columns.min(), columns.max()


@pytest.mark.parametrize("detect", DETECTORS, ids=lambda detect: detect.__name__)
def test_each_frame_shows_its_own_box(start, tmp_path, detect):
    printed = start(detect)
    assert sorted(os.listdir(tmp_path / "out")) == ["clip.mp4", "detections.txt"]
    frames, fps = read_clip(tmp_path / "out" / "clip.mp4")
    assert frames.shape == (FRAMES, HEIGHT, WIDTH, 3) and fps == 12.5
    lines = [line.split("\t") for line in (tmp_path / "out" / "detections.txt").read_text().splitlines()[1:]]
    assert [line[:3] for line in lines] == [[f"clip.mp4 frame {n}", "dog", "0.9000"] for n in (1, 2, 3, 4, 5, 6)]
    for k in range(FRAMES):
        left, top = corner(k)
        assert [float(x) for x in lines[k][3:]] == pytest.approx([left, top, left + SIDE, top + SIDE], abs=1.5)
        assert drawn_box(frames[k], k) == pytest.approx((left, left + SIDE - 1), abs=2)
    assert "6 images at 160 x 160 on cpu, median milliseconds: network" in printed
    assert "images per second: network alone" in printed and "6 detections: clip.mp4 and detections.txt" in printed


@pytest.mark.parametrize("detect", DETECTORS, ids=lambda detect: detect.__name__)
def test_ctrl_c_keeps_the_frames_so_far(start, tmp_path, detect):
    printed = start(detect, interrupt_at=4)
    frames, _ = read_clip(tmp_path / "out" / "clip.mp4")
    assert len(frames) == 3 and drawn_box(frames[2], 2) == pytest.approx((24, 47), abs=2)
    assert len((tmp_path / "out" / "detections.txt").read_text().splitlines()) == 1 + 3
    assert "stopped by Ctrl-C; the results so far are kept" in printed and "3 images at" in printed


def test_ctrl_c_before_the_first_frame_is_a_plain_one(start, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        start(yolov3.detect, interrupt_at=1)
    assert not (tmp_path / "out").exists()


def test_a_camera(start, tmp_path, monkeypatch):
    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: Camera([frame(k) for k in (0, 1)]) if source == 0
                        else real(source))
    printed = start(yolov3.detect, source=0)
    frames, fps = read_clip(tmp_path / "out" / "camera0.mp4")
    assert len(frames) == 2 and fps == 30 and drawn_box(frames[1], 1) == pytest.approx((12, 35), abs=2)
    assert "camera 0 frame 2\tdog" in (tmp_path / "out" / "detections.txt").read_text()
    assert "2 detections: camera0.mp4 and detections.txt" in printed


def test_an_error_in_the_middle_keeps_the_frames_so_far(start, tmp_path, monkeypatch):
    # A frame without anything bright, for which the Finder fails.
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    path = write_clip(tmp_path / "in" / "dark.mp4", [frame(0), frame(1), black])
    with pytest.raises(IndexError):
        start(yolov3.detect, source=path)
    assert os.listdir(tmp_path / "out") == ["dark.mp4"] and len(read_clip(tmp_path / "out" / "dark.mp4")[0]) == 2


def test_house_numbers_in_a_video(clip, tmp_path, monkeypatch, capsys):
    # A 4 on the left, a 7 on the right, in each frame until Ctrl-C in the third. A frame of 160 x 96 pixels is enlarged
    # to twice the size: 3 * 160 > 320.
    boxes, scores, calls = torch.tensor([[[0.6, 0.1, 0.8, 0.9], [0.2, 0.1, 0.4, 0.9]]]), torch.zeros(1, 2, 10), []
    scores[0, 0, 7], scores[0, 1, 4] = 0.8, 0.9

    def decode(heads, anchors, strides):
        calls.append(heads)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return boxes, scores

    detect = yolov3.smol_svhn.detect
    state = {"config": read_config(CONFIG), "classes": list("0123456789"), "size": 32, "model": None}
    for name, value in [("SOURCE", clip), ("OUT", tmp_path / "out"), ("load_checkpoint", lambda path, network: state),
                        ("load_weights", lambda *arguments: None), ("decode", decode)]:
        monkeypatch.setattr(detect, name, value)
    detect.main()
    assert (tmp_path / "out" / "numbers.txt").read_text() == "clip.mp4 frame 1\t47\nclip.mp4 frame 2\t47\n"
    assert read_clip(tmp_path / "out" / "clip.mp4")[0].shape == (2, 192, 320, 3)
    printed = capsys.readouterr().out
    assert "2 images at 32 x 32: clip.mp4 and numbers.txt" in printed and "images per second" in printed
    state["config"]["image_size"] = 33
    monkeypatch.setattr(detect, "CHECKPOINT", "other/last.pt")
    with pytest.raises(InputError, match="other/last.pt: image_size 33 cannot be halved"):
        detect.main()
    del state["config"]
    with pytest.raises(InputError, match="other/last.pt: the file has to be an object with num_classes"):
        detect.main()
