"""
Draws a small sample in the layout of ImageNet: the same folders and file names, and ten of the thousand classes.

    python data_samples/draw_imagenet.py    writes data_samples/imagenet, 80 + 40 images, in 2 seconds

        train/n02690373/n02690373_1.JPEG ...            8 images of each class
        val/n02690373/ILSVRC2012_val_00000001.JPEG ...  4 images of each class
        LOC_synset_mapping.txt                          the names of the classes, as in Kaggle's copy of ImageNet

The photographs of ImageNet may not be redistributed; these images may. Each shows one whole object on a scene. Ten of
the twenty drawings fit a class of ImageNet and are used. The thousand classes have kinds of buses, cars and birds, for
example, but no class bus, car or bird.

For a larger task, still an easy one, set NUM_TRAIN, NUM_VAL = 400, 50 and set OUT to a folder of yours; it takes 1
minute. An image depends on SEED, its split, its class and its number in the class alone.
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
SHARE = .6, .95                                         # longer side of the object / shorter side of the image

CLASSES = [                                             # WordNet id, names, drawing, scenes; in the order of the ids
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
    """
    split    0 for train, 1 for val
    number   of the image in its class, from 1
    returns  (H, W, 3) uint8 RGB
    """
    rng = np.random.default_rng((SEED, split, label, number))
    _, _, name, scenes = CLASSES[label]
    scene = scenes[rng.integers(len(scenes))]
    width, height = SIZES[rng.integers(len(SIZES))]
    image, ground = background(scene, width, height, rng)
    layer = draw(name, rng.uniform(*SHARE) * min(width, height), rng, bool(rng.random() < .5))
    h, w = layer.shape[:2]
    x = round(rng.uniform(.25, .75) * (width - w))      # most of it in the central square, which is evaluated
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
