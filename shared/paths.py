"""Where things lie, whatever folder a script is started from."""
import os
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "data_samples"
RUNS = ROOT / "runs"


@contextmanager
def atomic_write(path):
    """
    For files that must not be left half written: gives a temporary path beside the wanted one, of the same ending, to
    write to, and moves it into place when all has gone well. Makes the folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
