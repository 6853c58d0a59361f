"""The folders of the repository, independent of the folder that a script is started from."""
import os
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "data_samples"
RUNS = ROOT / "runs"


@contextmanager
def atomic_write(path):
    """
    Writes a file whole or not at all. Gives a temporary path in the same folder, with the same extension, to write to.
    It replaces the file at `path` at the end of the with block, and is deleted if the block raises an error. Makes the
    folder if it is missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
