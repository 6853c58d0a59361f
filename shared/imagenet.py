"""
Reads ImageNet (ILSVRC 2012) in its usual layout, a folder for each class, named by its WordNet id:

    train/n01440764/n01440764_10026.JPEG ...        1,281,167 images of 1000 classes
    val/n01440764/ILSVRC2012_val_00000293.JPEG ...  50,000

Labels count the ids in alphabetical order, as everybody's published weights do.

The validation images arrive in one flat folder. To move them into their classes, with the labels of Kaggle's copy:

    python shared/imagenet.py imagenet/val LOC_val_solution.csv

or with any text file of lines that begin "ILSVRC2012_val_00000001.JPEG n01751748". The original archives,
ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz, are unpacked and sorted by torchvision:

    python -c "import torchvision; torchvision.datasets.ImageNet('imagenet', 'val')"
"""
import os
import re
import sys
from pathlib import Path

from tqdm import tqdm

from shared.errors import InputError
from shared.images import EXTENSIONS

WNID = re.compile(r"n\d{8}")


def list_classes(folder):
    """The names of the folders in the folder, sorted: a class's label is its place. InputError if there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        images = sum(entry.name.lower().endswith(EXTENSIONS) for entry in os.scandir(folder))
        if images:
            raise InputError(f"{folder}: {images} images in one flat folder, as ImageNet's validation images arrive; "
                             f"sort them into classes by python shared/imagenet.py {folder} LOC_val_solution.csv")
        raise InputError(f"{folder}: no class folders (n01440764 ...) in it")
    return classes


def read_split(folder, classes):
    """
    folder   a path that holds one folder of images for each class
    classes  their names, in the order of the labels
    returns  a list of (path, label), sorted by path
    raises   InputError, naming the folder: none there, one that is no class, a class without images
    """
    present = list_classes(folder)
    for name in present:
        if name not in classes:
            raise InputError(f"{Path(folder, name)}: no such class in training")
    images = []
    for label, name in enumerate(tqdm(classes, desc=f"reading {folder}", disable=len(classes) < 100)):
        place = Path(folder, name)
        if name not in present:
            raise InputError(f"{place}: no such folder")
        found = sorted(entry.name for entry in os.scandir(place) if entry.name.lower().endswith(EXTENSIONS))
        if not found:
            raise InputError(f"{place}: no images in this folder ({', '.join(EXTENSIONS)})")
        images += [(os.path.join(place, image), label) for image in found]
    return images


def read_names(path, classes):
    """From lines of "n02690373 airliner, ...", each class's name up to the comma; its id where there is no line."""
    lines = Path(path).read_text(encoding="utf-8").splitlines() if Path(path).is_file() else []
    names = dict(line.split(maxsplit=1) for line in lines if len(line.split()) > 1)
    return [names.get(name, name).split(",")[0].strip() for name in classes]


def sort_validation(folder, labels):
    """
    Moves folder/IMAGE.JPEG to folder/WNID/IMAGE.JPEG.

    labels   a file whose lines begin with an image's name, with or without its ending, and a WordNet id, between them
             a comma or a space (LOC_val_solution.csv: ILSVRC2012_val_00000001,n01751748 ...)
    returns  how many were moved: 0 when they were sorted already
    raises   InputError, before anything is moved, for a missing file and for an image without a label
    """
    folder, labels = Path(folder), Path(labels)
    for path, exists in (folder, folder.is_dir()), (labels, labels.is_file()):
        if not exists:
            raise InputError(f"{path}: no such file or folder")
    rows = [line.replace(",", " ").split() for line in labels.read_text(encoding="utf-8").splitlines()]
    wnids = {Path(row[0]).stem: row[1] for row in rows if len(row) > 1 and WNID.fullmatch(row[1])}
    flat = sorted(path for path in folder.iterdir() if path.name.lower().endswith(EXTENSIONS))
    for image in flat:
        if image.stem not in wnids:
            raise InputError(f"{labels}: no line for {image.name}")
    for image in tqdm(flat, desc=f"sorting {folder}", disable=len(flat) < 1000):
        place = folder / wnids[image.stem]
        place.mkdir(exist_ok=True)
        image.rename(place / image.name)
    return len(flat)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python shared/imagenet.py VALIDATION_FOLDER LOC_val_solution.csv")
    try:
        print(f"{sort_validation(*sys.argv[1:])} images sorted into {sys.argv[1]}")
    except InputError as error:
        sys.exit(str(error))
