"""Reads photographs as they come: rotated by EXIF, grey, CMYK, with 16 bits or with an alpha channel."""
import cv2
import numpy as np
from PIL import Image

from shared.errors import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
EXIF_ORIENTATION = 274    # the number of the EXIF tag; values 5 to 8 swap the width and the height


def read_image(path):
    """The image in RGB, (H, W, 3) uint8, with its EXIF rotation applied. Raises InputError if it cannot be read."""
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)                  # (H, W, 3)
    except (OSError, cv2.error) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{path}: cannot be read as an image ({reason})") from None
    if image is None:
        raise InputError(f"{path}: cannot be read as an image (not an image file, or a damaged one)")
    return image


def image_size(path):
    """(width, height) of the image with its EXIF rotation applied. Reads the header of the file only."""
    try:
        with Image.open(path) as header:
            if header.format == "TIFF":              # Pillow may have applied the rotation already
                height, width, _ = read_image(path).shape
                return width, height
            width, height = header.size
            if "exif" in header.info and header.getexif().get(EXIF_ORIENTATION, 1) >= 5:
                width, height = height, width
            return width, height
    except OSError:
        raise InputError(f"{path}: cannot be read as an image (not an image file, or a damaged one)") from None


def list_images(path):
    """
    The image at the path in a list, or the sorted list of the images directly in the folder at the path. Raises
    InputError if there is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    images = sorted(p for p in path.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))
    if not images:
        raise InputError(f"{path}: no images in this folder ({', '.join(EXTENSIONS)})")
    return images
