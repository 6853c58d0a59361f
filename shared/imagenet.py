"""
Reads ImageNet (ILSVRC 2012) in its usual layout: one folder for each class, named by the class's WordNet id.

    train/n01440764/n01440764_10026.JPEG ...        1,281,167 images of 1000 classes
    val/n01440764/ILSVRC2012_val_00000293.JPEG ...  50,000 images

The label of a class is the index of its id in alphabetical order, as in torchvision.

The validation images arrive in one flat folder. This command moves them into the folders of their classes, with the
labels of Kaggle's copy:

    python shared/imagenet.py imagenet/val LOC_val_solution.csv

The labels may also be any text file of lines that begin "ILSVRC2012_val_00000001.JPEG n01751748". If you have the
original archives, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz, torchvision unpacks and sorts them:

    python -c "import torchvision; torchvision.datasets.ImageNet('imagenet', 'val')"
"""
import os
import re
import sys
from pathlib import Path

from tqdm import tqdm

from shared.errors import InputError, run
from shared.files import read_lines, reason
from shared.images import EXTENSIONS

WORDNET_ID = re.compile(r"n\d{8}")


def list_classes(folder):
    """The names of the class folders in the folder, sorted. The label of a class is its index in this list."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        num_images = len(images_in(folder))
        if num_images:
            raise InputError(f"{folder}: {num_images} images in one flat folder, as ImageNet's validation images "
                             f"arrive; sort them into classes with "
                             f"python shared/imagenet.py {folder} LOC_val_solution.csv")
        raise InputError(f"{folder}: no class folders (n01440764 ...) in it")
    return classes


def images_in(folder):
    """The sorted names of the images directly in the folder."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.name.lower().endswith(EXTENSIONS))


def read_split(folder, classes):
    """
    folder   a path that holds one folder of images for each class
    classes  the names of these folders, in the order of the labels
    returns  a list of (path, label), sorted by class and then by file name
    raises   InputError, naming the folder, if there is none, if one of its folders is not a class, or if a class has
             no images
    """
    present = list_classes(folder)
    for name in present:
        if name not in classes:
            raise InputError(f"{Path(folder, name)}: no such class in training")
    images = []
    for label, name in enumerate(tqdm(classes, desc=f"reading {folder}", disable=len(classes) < 100)):
        class_folder = Path(folder, name)
        if name not in present:
            raise InputError(f"{class_folder}: no such folder")
        files = images_in(class_folder)
        if not files:
            raise InputError(f"{class_folder}: no images in this folder ({', '.join(EXTENSIONS)})")
        images += [(os.path.join(class_folder, file), label) for file in files]
    return images


def read_names(path, classes):
    """
    The first readable name of each class, from a file of lines such as "n02690373 airliner, plane". A class without a
    line keeps its id as its name, and so do all classes if there is no such file. Raises InputError if the file cannot
    be read.
    """
    path = Path(path)
    if not path.is_file():
        return list(classes)
    names = {}
    for line in read_lines(path):
        words = line.split(maxsplit=1)
        if len(words) == 2:
            wordnet_id, all_names = words
            names[wordnet_id] = all_names.split(",")[0].strip()
    return [names.get(name, name) for name in classes]


def sort_validation(folder, labels):
    """
    Moves folder/IMAGE.JPEG to folder/WORDNET_ID/IMAGE.JPEG. Never replaces a file.

    labels   a file whose lines begin with the name of an image, with or without its extension, and its WordNet id,
             separated by a comma or a space (LOC_val_solution.csv: ILSVRC2012_val_00000001,n01751748 ...)
    returns  the number of images moved; 0 if they were sorted already
    raises   InputError, before anything is moved, for a missing file, for an image without a label or with two, and for
             a place that is taken; also if a file cannot be moved, after those before it have been
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such file or folder")
    ids = {}                                         # image name without extension -> its WordNet ids
    for line in read_lines(labels):
        fields = line.replace(",", " ").split()
        if len(fields) > 1 and WORDNET_ID.fullmatch(fields[1]):
            ids.setdefault(Path(fields[0]).stem, set()).add(fields[1])

    moves = []                                       # (from, to)
    for name in images_in(folder):
        image_ids = ids.get(Path(name).stem, [])
        if not image_ids:
            raise InputError(f"{labels}: no line for {name}")
        if len(image_ids) > 1:
            raise InputError(f"{labels}: different classes for {name}: {', '.join(sorted(image_ids))}")
        class_folder = folder / min(image_ids)
        if os.path.lexists(class_folder) and not class_folder.is_dir():
            raise InputError(f"{class_folder}: is a file in the place of the class's folder; nothing was moved")
        if os.path.lexists(class_folder / name):
            raise InputError(f"{class_folder / name}: is already there, and {folder / name}, too; nothing was moved")
        moves.append((folder / name, class_folder / name))
    for image, new in tqdm(moves, desc=f"sorting {folder}", disable=len(moves) < 1000):
        try:
            new.parent.mkdir(exist_ok=True)
            image.rename(new)
        except OSError as error:
            raise InputError(f"{image}: cannot be moved to {new} ({reason(error)}); the same command goes on") from None
    return len(moves)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: python shared/imagenet.py VALIDATION_FOLDER LOC_val_solution.csv")
    _, folder, labels = sys.argv
    print(f"{sort_validation(folder, labels)} images sorted into {folder}")


if __name__ == "__main__":
    run(main)
