"""The folders of the repository, how a file is written, and the folder of a training."""
import os
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.errors import InputError

try:
    import fcntl
except ImportError:                  # Windows
    fcntl = None

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "data_samples"
RUNS = ROOT / "runs"

LOCKS = {}                           # path: open file. A lock lasts until its file is closed or the process ends


@contextmanager
def atomic_write(path):
    """
    Writes a file whole or not at all. Gives a temporary path in the same folder, with the same extension, to write to.
    It replaces the file at `path` at the end of the with block, and is deleted if the block raises an error. No other
    process uses the same temporary path. Makes the folder if it is missing.

    Raises InputError, naming the file, if it cannot be written, for example because the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def open_run(folder, rank=0):
    """
    Makes the folder of a training, locks it, and deletes temporary files that a killed training left there. Of several
    processes the one with rank 0 does this, the others do nothing.

    The lock ends with the process, however it ends. There is no lock on Windows and on network disks that have none:
    there two trainings in one folder overwrite each other's files.

    returns  the folder
    raises   InputError if another training writes to the folder, if nothing can be written to it, or if it holds a
             best.pt without a last.pt, because a new training would overwrite it
    """
    if rank > 0:
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if lock(folder / ".lock"):
            for temporary in [*folder.glob(".*.part.*"), *folder.glob("detections/.*.part.*")]:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error})") from None
    if (folder / "best.pt").exists() and not (folder / "last.pt").exists():
        raise InputError(f"{folder / 'best.pt'}: its training has lost last.pt, and a new one would overwrite best.pt. "
                         "Give RUN a new name, or delete best.pt")
    return folder


def lock(path):
    """
    Locks the file at path, which is made if it is missing, until this process ends. Returns False where the system has
    no locks. Raises InputError if another process holds the lock.
    """
    if fcntl is None:
        return False
    if path in LOCKS:                # of an earlier training in this process
        LOCKS.pop(path).close()
    file = open(path, "a")
    try:
        # With flock the processes that load images would inherit the lock and keep it for seconds after the training
        # was killed. The lock of lockf belongs to this process alone.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.close()
        raise InputError(f"{path.parent}: another training writes to this folder. Wait for its end, or give RUN a new "
                         "name") from None
    except OSError:
        file.close()
        return False
    LOCKS[path] = file
    return True
