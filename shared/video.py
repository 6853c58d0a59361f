"""
What a detect.py reads and writes: images, or the frames of a video file or of a camera, and annotated videos.

Videos are written as MPEG-4 Part 2 (mp4v) in an .mp4 file, which OpenCV's own packages can write. Most players show it,
web browsers do not. The format needs an even width and height: if one is odd, the last column or row is cut off. Sound
is not copied. No window is opened.

A camera's video plays faster than what it shows if the network takes fewer frames per second than the camera announces.
"""
import os
from pathlib import Path

import cv2
from tqdm import tqdm

from shared.errors import InputError
from shared.files import check_file
from shared.images import list_images, read_image

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")    # OpenCV's FFmpeg prints nothing; our own line is enough

EXTENSIONS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".ts", ".wmv", ".flv", ".3gp")
FALLBACK_FPS = 30    # frames per second of a camera or a file that does not say how many it has


def open_source(source, out):
    """
    source   an image, a folder of images, a video file, or the number of a camera (0 is the first)
    out      the folder for the results
    returns  an iterator over (name, image (H, W, 3) uint8 RGB); the number of images, None if it is not known; the
             frames per second of a video, None for photographs
    raises   InputError if the source is missing or cannot be opened, or if the results would replace its images
    """
    if not isinstance(source, (int, str, os.PathLike)):
        raise InputError(f"SOURCE is {source!r}; it has to be a path or the number of a camera")
    if not isinstance(source, int):
        path = Path(source)
        folder = path if os.path.isdir(path) else path.parent
        if os.path.exists(path) and folder.resolve() == Path(out).resolve():
            raise InputError(f"{source}: is in OUT, where the results would replace it; choose another OUT")
    if not is_video(source):
        paths = list_images(Path(source))
        return read_images(paths), len(paths), None
    capture = open_capture(source)
    fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    fps = fps if 0 < fps <= 1000 else FALLBACK_FPS                           # a camera may say 0 or -1, a file nan
    count = int(count) if 0 < count < 1e9 else None
    return read_frames(capture, source, count), count, fps


def is_video(source):
    """Whether a source is a video: the number of a camera, or the path of a file with one of EXTENSIONS."""
    return isinstance(source, int) or Path(source).suffix.lower() in EXTENSIONS and not os.path.isdir(source)


def read_images(paths):
    """Yields the name and the image of each file. Reports a file that cannot be read and goes on with the others."""
    for path in paths:
        try:
            image = read_image(path)
        except InputError as error:
            tqdm.write(str(error))
            continue
        yield path.name, image


def open_capture(source):
    """A cv2.VideoCapture of a video file or of a camera's number. Raises InputError if it cannot be opened."""
    camera = isinstance(source, int)
    if not camera:
        check_file(source)
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    capture = cv2.VideoCapture(source if camera else str(source))
    cv2.utils.logging.setLogLevel(level)
    if not capture.isOpened():
        if camera:
            raise InputError(f"camera {source}: cannot be opened (not connected, or used by another program)")
        raise InputError(f"{source}: cannot be read as a video (not a video file, or a damaged one)")
    return capture


def read_frames(capture, source, count):
    """
    Yields a name and the image (H, W, 3) uint8 RGB of each frame, until the file ends or the camera stops.

    A frame of another size than the first one is scaled to that size. If a file ends long before the `count` frames
    that it announces, this is reported. Raises InputError if there is no frame at all.
    """
    label = f"camera {source}" if isinstance(source, int) else Path(source).name
    n, size = 0, None
    try:
        while True:
            found, frame = capture.read()                                    # (H, W, 3) BGR
            if not found:
                break
            size = size or (frame.shape[1], frame.shape[0])
            if (frame.shape[1], frame.shape[0]) != size:
                frame = cv2.resize(frame, size)
            n += 1
            yield f"{label} frame {n}", cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
    if n == 0:
        raise InputError(f"{label}: has no frame that can be read")
    if count and n < 0.95 * count:                                           # some formats only estimate the count
        tqdm.write(f"{source}: ends after {n} of the {count} frames that it announces; the file may be damaged")


def video_path(source, out):
    """The path of the annotated video: <name of the file>.mp4 or camera<number>.mp4 in the folder out."""
    return Path(out) / (f"camera{source}.mp4" if isinstance(source, int) else f"{Path(source).stem}.mp4")


def unfinished(path):
    """The path of a video while it is being written, in the same folder."""
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


def add_frame(video, path, picture, fps):
    """
    Adds a picture (H, W, 3) uint8 RGB to a video. All pictures of a video have to be of one size. The file appears
    under its name when finish_video is called.

    video    None for the first picture, then what the last call returned
    returns  the video, a cv2.VideoWriter
    raises   InputError if the video cannot be written
    """
    if video is None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{path.parent}: cannot be made ({error.strerror})") from None
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        size = picture.shape[1], picture.shape[0]
        video = cv2.VideoWriter(str(unfinished(path)), cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
        cv2.utils.logging.setLogLevel(level)
        if not video.isOpened():
            raise InputError(f"{path}: cannot be written as a video of {size[0]} x {size[1]} pixels at {fps:g} frames "
                             "per second")
    video.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return video


def finish_video(video, path):
    """
    Completes the video and gives it its name. Does nothing if the video is None. Raises InputError if the file cannot
    be played, for example because the disk was full; a file of that name from before is then unchanged.
    """
    if video is None:
        return
    video.release()
    try:
        open_capture(unfinished(path)).release()
        os.replace(unfinished(path), path)
    except (InputError, OSError):
        raise InputError(f"{path}: cannot be written (is the disk full?)") from None
    finally:
        unfinished(path).unlink(missing_ok=True)
