"""Photographs as people have them: turned by a camera, grey, CMYK, with 16 bits or an alpha channel."""
import cv2
import numpy as np
from PIL import Image

from shared.errors import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
EXIF_ORIENTATION = 274


def read_image(path):
    """The picture as a person sees it: (H, W, 3) uint8 RGB, EXIF rotation applied. InputError if it cannot be read."""
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
    except (OSError, cv2.error) as error:
        raise InputError(f"{path}: cannot be read as an image ({str(error).strip().splitlines()[-1]})") from None
    if image is None:
        raise InputError(f"{path}: cannot be read as an image (not an image file, or a damaged one)")
    return image


def image_size(path):
    """(width, height) of the picture as a person sees it, read from the file's header only."""
    try:
        with Image.open(path) as header:
            if header.format == "TIFF":                                      # Pillow may have turned it already
                return read_image(path).shape[1::-1]
            width, height = header.size
            turned = "exif" in header.info and header.getexif().get(EXIF_ORIENTATION, 1) >= 5    # 5 to 8: on their side
    except OSError:
        raise InputError(f"{path}: cannot be read as an image (not an image file, or a damaged one)") from None
    return (height, width) if turned else (width, height)


def list_images(path):
    """The image at path, or all images directly in the folder at path, sorted. InputError if there is none."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    images = sorted(p for p in path.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))
    if not images:
        raise InputError(f"{path}: no images in this folder ({', '.join(EXTENSIONS)})")
    return images
