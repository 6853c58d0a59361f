"""Reads photographs as they come: rotated by EXIF, grey, CMYK, with 16 bits or with an alpha channel."""
import os
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from shared.errors import InputError, one_line
from shared.files import check_file, read_bytes, reason

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
ORIENTATION = 274         # the number of the EXIF tag; values 5 to 8 swap the width and the height
END_OF_JPEG = b"\xff\xd9"
END_OF_PNG = b"\0\0\0\0IEND\xae\x42\x60\x82"               # the chunk IEND: its length 0, its name, its checksum


def read_image(path):
    """The image in RGB, (H, W, 3) uint8, with its EXIF rotation applied. Raises InputError if it cannot be read."""
    try:
        image = cv2.imdecode(np.frombuffer(read_bytes(path), np.uint8), cv2.IMREAD_COLOR_RGB)    # (H, W, 3)
    except cv2.error as error:
        why = str(error).strip().splitlines()[-1]
        raise InputError(f"{one_line(path, 1000)}: cannot be read as an image ({why})") from None
    if image is None:
        raise InputError(f"{one_line(path, 1000)}: cannot be read as an image (not an image file, or a damaged one)")
    return image


def image_size(path):
    """
    (width, height) of the image with its EXIF rotation applied, as read_image would return it. A JPEG or PNG file whose
    header, orientation and last bytes are as usual is not decoded. Any other file is, so that exactly those raise
    InputError that read_image refuses. Damage in the middle of a JPEG or PNG file is not found here.
    """
    check_file(path)
    size = None
    try:
        with open(path, "rb") as file, warnings.catch_warnings(action="error"):
            size = usual_size(file)
    except Exception:     # Pillow has many errors and warnings, also for metadata that OpenCV passes over: decode it
        pass
    if size is None:
        height, width, _ = read_image(path).shape
        size = width, height
    return size


def usual_size(file):
    """(width, height) as image_size returns it, or None if it takes decoding to be sure."""
    with Image.open(file) as header:
        format, (width, height), exif = header.format, header.size, header.info.get("exif", b"")
        orientation = header.getexif().get(ORIENTATION) if exif else None
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - 65536, 0))
        tail = file.read()
    if b"\x01\x12" in exif or b"\x12\x01" in exif:           # the number of the tag, in either order of the bytes
        # An entry of the EXIF table is the tag, the type (3: 16 bits), the count (1) and the value. OpenCV reads a
        # value of another type differently from Pillow, and takes 1 for a value that is not 1 to 8.
        if orientation not in range(1, 9):
            return None
        little_endian = b"\x12\x01\x03\x00\x01\x00\x00\x00%c\x00" % orientation
        big_endian = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00%c" % orientation
        if little_endian not in exif and big_endian not in exif:
            return None
        if orientation >= 5:
            width, height = height, width
    if format in ("JPEG", "MPO") and tail.endswith(END_OF_JPEG):             # MPO: a JPEG with a second picture behind
        return width, height
    if format == "PNG" and tail.endswith(END_OF_PNG) and b"eXIf" not in tail:        # EXIF may follow the pixels
        return width, height
    return None


def list_images(path):
    """
    The image at the path in a list, or the sorted list of the images directly in the folder at the path. Raises
    InputError if there is none.
    """
    if os.path.isfile(path):
        return [path]
    try:
        names = os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{one_line(path, 1000)}: no such file or folder") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{one_line(path, 1000)}: {reason(error)}") from None
    images = sorted(path / name for name in names
                    if Path(name).suffix.lower() in EXTENSIONS and not name.startswith("."))
    if not images:
        raise InputError(f"{path}: no images in this folder ({', '.join(EXTENSIONS)})")
    return images
