"""Draws a tiny ImageNet: the folders, file names and ten of the thousand classes of the real one, as drawings.

    python data_samples/draw_imagenet.py    writes data_samples/imagenet, 80 + 40 images, in 2 seconds

        train/n02690373/n02690373_1.JPEG ...            8 images of each class
        val/n02690373/ILSVRC2012_val_00000001.JPEG ...  4 images of each class
        LOC_synset_mapping.txt                          the classes' names, as Kaggle's copy of ImageNet has them

The photographs of ImageNet may not be redistributed; these images may. Each shows one object, whole, on a scene. Of
the drawings only those are used that a class of ImageNet fits: its thousand have no bus, car or bird as such.

For a real, if easy, task set NUM_TRAIN, NUM_VAL = 400, 50 and OUT to a folder of yours: 1 minute. An image depends on
SEED, its split, its class and its number in the class alone.
"""

import shutil
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data_samples.draw_voc import shadow
from data_samples.drawings import draw, put
from data_samples.scenes import background, meadow, room, seaside, snow, street, studio
from shared.paths import SAMPLES

SEED = 2012
NUM_TRAIN, NUM_VAL = 8, 4                               # images of each class
OUT = SAMPLES / "imagenet"
SIZES = [(256, 192)] * 4 + [(192, 256)] * 2 + [(224, 224), (256, 170)]      # width, height
JPEG_QUALITY = 88
SHARE = .6, .95                                         # the object's longer side / the image's shorter one

CLASSES = [                                             # wnid, names, drawing, scenes; sorted by wnid as labels are
    ("n02099712", "Labrador retriever", "dog", [meadow, snow, street, room]),
    ("n02389026", "sorrel", "horse", [meadow, meadow, snow]),
    ("n02412080", "ram, tup", "sheep", [meadow, meadow, snow]),
    ("n02690373", "airliner", "aeroplane", [seaside, meadow, snow]),
    ("n03201208", "dining table, board", "diningtable", [room, room, studio]),
    ("n03792782", "mountain bike, all-terrain bike, off-roader", "bicycle", [street, meadow, studio]),
    ("n03983396", "pop bottle, soda bottle", "bottle", [room, studio]),
    ("n03991062", "pot, flowerpot", "pottedplant", [room, studio]),
    ("n04344873", "studio couch, day bed", "sofa", [room, room, studio]),
    ("n04404412", "television, television system", "tvmonitor", [room, studio])]


def draw_image(split, label, number):
    """Image number (from 1) of a class; split is 0 for train, 1 for val. -> (H, W, 3) uint8 RGB"""
    rng = np.random.default_rng((SEED, split, label, number))
    _, _, name, scenes = CLASSES[label]
    scene = scenes[rng.integers(len(scenes))]
    width, height = SIZES[rng.integers(len(SIZES))]
    image, ground = background(scene, width, height, rng)
    layer = draw(name, rng.uniform(*SHARE) * min(width, height), rng, bool(rng.random() < .5))
    h, w = layer.shape[:2]
    x = round(rng.uniform(.25, .75) * (width - w))      # the middle square of the image is what evaluation looks at
    if name == "aeroplane":
        y = round(rng.uniform(0, .5 * (height - h)))
    else:
        feet = ground + rng.uniform(.3, .95) * (height - ground)
        y = round(np.clip(feet - h, 2, height - h - 1))
        if scene != studio:
            shadow(image, x, y, layer.shape)
    put(image, layer, x, y)
    return image


def main():
    mapping = "".join(f"{wnid} {names}\n" for wnid, names, *_ in CLASSES)
    final = Path(OUT)
    written = final / "LOC_synset_mapping.txt"
    if final.exists() and any(final.iterdir()) and not (written.is_file() and written.read_text() == mapping):
        raise SystemExit(f"{final} holds something that this script did not write: set OUT to another folder")
    folder = final.with_name(final.name + ".unfinished")
    shutil.rmtree(folder, ignore_errors=True)
    files = []
    for label, (wnid, *_) in enumerate(CLASSES):
        for number in range(1, NUM_TRAIN + 1):
            files.append((0, label, number, f"train/{wnid}/{wnid}_{number}.JPEG"))
        for number in range(1, NUM_VAL + 1):
            files.append((1, label, number, f"val/{wnid}/ILSVRC2012_val_{label * NUM_VAL + number:08}.JPEG"))
    for split, label, number, path in tqdm(files, unit="image"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        image = draw_image(split, label, number)
        cv2.imwrite(str(folder / path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    (folder / "LOC_synset_mapping.txt").write_text(mapping)
    if final.exists():
        shutil.rmtree(final)
    folder.rename(final)
    print(f"{len(files)} images in {final}")


if __name__ == "__main__":
    main()
