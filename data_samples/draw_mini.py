"""
Draws the miniature VOC: 1,600 training and 300 test images in the layout of Pascal VOC, about 250 pixels wide, with
the twenty classes of data_samples/draw_voc.py. It is large enough to learn to detect what the network has never seen.

    python data_samples/draw_mini.py     writes data_samples/mini/VOC2007 (31 MB) in about half a minute on 2 CPU cores

The preset "mini" of yolov1/, yolov2/ and yolov3/dataset.py trains on it, and then it is drawn at its first use. It is
not shipped because it is larger than the rest of the repository. The training and the test images are drawn from
different seeds, so no scene is in both.
"""
import os
import shutil
from functools import partial
from multiprocessing import get_context

from tqdm import tqdm

from data_samples.draw_voc import SIZES, write_image
from shared.paths import SAMPLES

FOLDER = SAMPLES / "mini" / "VOC2007"
SPLITS = {"train": (range(1, 1601), 2012), "test": (range(1601, 1901), 2013)}          # numbers of the images, seed
HALF_SIZES = [(width // 2, height // 2) for width, height in SIZES]


def draw_mini(folder=FOLDER, splits=SPLITS):
    """Draws the images with one process per core, unless the folder exists."""
    if folder.exists():
        return
    unfinished = folder.with_name(f"{folder.name}.unfinished.{os.getpid()}")     # each of several trainings has its own
    shutil.rmtree(unfinished, ignore_errors=True)
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (unfinished / part).mkdir(parents=True)
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        for split, (numbers, seed) in splits.items():
            names = "".join(f"{number:06d}\n" for number in numbers)
            (unfinished / "ImageSets" / "Main" / f"{split}.txt").write_text(names)
            draw_one = partial(write_image, unfinished, seed=seed, sizes=HALF_SIZES)
            drawn = pool.imap_unordered(draw_one, numbers, chunksize=8)
            for _ in tqdm(drawn, total=len(numbers), desc=f"drawing the miniature VOC, {split}", unit="image"):
                pass
    try:
        unfinished.rename(folder)                           # only now, so that an interrupted drawing begins again
    except OSError:                                         # another process has finished first
        shutil.rmtree(unfinished)


if __name__ == "__main__":
    draw_mini()
    print(FOLDER)
