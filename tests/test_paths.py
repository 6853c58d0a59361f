"""Files are written whole or not at all, and one training at a time writes to a folder."""
import os
import resource
import signal
import subprocess
import sys

import pytest

import shared.paths as paths
from shared.errors import InputError
from shared.paths import ROOT, atomic_write, open_run


# The rooms of the next line train several networks. An interrupted one of them starts again
SEVERAL = ["table2", "did_not_work"]
TRAININGS = sorted(path for path in ROOT.glob("yolov*/**/train.py") if path.parent.name not in SEVERAL)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ---- writing a file

def test_two_writers_of_one_file_do_not_meet(tmp_path):
    # Each writes to a path of its own. The one that ends last wins, with a whole file.
    path = tmp_path / "last.pt"
    with atomic_write(path) as first:
        first.write_text("aaaa")
        with atomic_write(path) as second:
            second.write_text("b")
        assert path.read_text() == "b"
    assert path.read_text() == "aaaa" and names(tmp_path) == ["last.pt"]
    assert first != second and first.suffix == second.suffix == ".pt" and first.parent == second.parent == tmp_path
    assert first.name.startswith(".last.")


def limited(function, size=1000):
    """Calls the function while no file can grow beyond size bytes, which fails as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        return function()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write():
        with atomic_write(path) as temporary:
            temporary.write_text("new" * 1000)
    with pytest.raises(InputError) as error:
        limited(write)
    assert str(error.value) == f"{path}: cannot be written (File too large)"
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(InputError, match="runs/yolov3/a.txt: cannot be written .(Not a directory|File exists)"):
        with atomic_write(tmp_path / "runs" / "yolov3" / "a.txt") as temporary:
            temporary.write_text("new")
    with pytest.raises(InputError, match="runs/yolov3: cannot be written .(Not a directory|File exists)"):
        open_run(tmp_path / "runs" / "yolov3")
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(InputError, match="a.txt: cannot be written .Is a directory"):
        with atomic_write(tmp_path / "a.txt") as temporary:
            temporary.write_text("new")
    assert names(tmp_path) == ["a.txt", "runs"]


def test_a_read_only_folder(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr(paths, "lock", refuse)
    with pytest.raises(InputError, match="yolov3: cannot be written .Permission denied"):
        open_run(tmp_path / "yolov3")


def test_errors_of_the_code_keep_their_traceback(tmp_path):
    with pytest.raises(ZeroDivisionError):
        with atomic_write(tmp_path / "a.txt") as temporary:
            temporary.write_text(str(1 / 0))
    assert names(tmp_path) == []


# ---- the folder of a training

@pytest.mark.parametrize("script", TRAININGS, ids=lambda path: path.parent.name)
def test_every_training_opens_its_folder_and_can_be_stopped(script):
    text = script.read_text()
    for line in ("open_run(RUNS / RUN", "tqdm(stoppable(steps", "or step == MAX_STEPS or stopped():", "check_loss("):
        assert text.count(line) == 1, line


def test_what_a_killed_training_left_is_deleted(tmp_path):
    folder = tmp_path / "run"
    (folder / "detections").mkdir(parents=True)
    (folder / "evaluation").mkdir()
    kept = ["last.pt", "log.csv", "detections/step_000050.jpg", "evaluation/.truths.0f.part.json", ".hidden"]
    for name in [*kept, ".last.0123abcd.part.pt", ".last.part.pt", "detections/.step_000050.0123abcd.part.jpg"]:
        (folder / name).write_text("x")
    assert open_run(folder) == folder
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left == {*kept, ".lock"}                          # evaluate.py may be running


def test_the_second_process_of_a_training_does_nothing(tmp_path):
    assert open_run(tmp_path / "run", rank=1) == tmp_path / "run" and names(tmp_path) == []


def test_best_pt_survives_a_lost_last_pt(tmp_path):
    (tmp_path / "best.pt").write_text("an earlier training's")
    with pytest.raises(InputError) as error:
        open_run(tmp_path)
    assert str(error.value) == (f"{tmp_path / 'best.pt'}: its training has lost last.pt, and a new one would overwrite "
                                "best.pt. Give RUN a new name, or delete best.pt")
    assert (tmp_path / "best.pt").read_text() == "an earlier training's"
    (tmp_path / "last.pt").write_text("x")
    assert open_run(tmp_path) == tmp_path


HOLD = """
import os, sys
from pathlib import Path
from shared.paths import open_run
open_run(Path(sys.argv[1]))
if len(sys.argv) > 2 and os.fork() == 0:         # a process that loads images outlives the training for a while
    os.write(1, b"%d\\n" % os.getpid())
    sys.stdin.read()
    sys.exit()
os.write(1, b"%d\\n" % os.getpid())
sys.stdin.read()
"""


def hold(folder, *workers):
    """Starts a process that opens the folder as a training does, and waits until it is done."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), *workers], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    return process, [int(process.stdout.readline()) for _ in range(1 + len(workers))]


@pytest.mark.parametrize("workers", [(), ("worker",)])
def test_a_lock_ends_with_its_process(tmp_path, workers):
    training, pids = hold(tmp_path / "run", *workers)
    (tmp_path / "run" / ".last.0123abcd.part.pt").write_text("it is being written")
    try:
        with pytest.raises(InputError) as error:
            open_run(tmp_path / "run")
        assert str(error.value) == (f"{tmp_path / 'run'}: another training writes to this folder. Wait for its end, or "
                                    "give RUN a new name")
        assert names(tmp_path / "run") == [".last.0123abcd.part.pt", ".lock"]
        assert open_run(tmp_path / "other") == tmp_path / "other"
        training.kill()
        training.wait()
        assert open_run(tmp_path / "run") == tmp_path / "run"
        assert open_run(tmp_path / "run") == tmp_path / "run"                # this process holds it already
        assert names(tmp_path / "run") == [".lock"]
        second = subprocess.run([sys.executable, "-c", HOLD, str(tmp_path / "run")], input="", capture_output=True,
                                text=True)
        assert "another training writes to this folder" in second.stderr and second.stdout == ""
    finally:
        training.kill()
        training.stdin.close()
        for pid in set(pids) - {training.pid}:
            os.kill(pid, signal.SIGKILL)
        training.stdout.close()


@pytest.mark.parametrize("system", ["Windows", "a network disk"])
def test_without_locks_a_training_runs_all_the_same(tmp_path, monkeypatch, system):
    # Nothing is deleted there: another training may be writing it.
    (tmp_path / ".last.0123abcd.part.pt").write_text("x")
    if system == "Windows":
        monkeypatch.setattr(paths, "fcntl", None)
    else:
        def no_locks(*_):
            raise OSError(37, "No locks available")
        monkeypatch.setattr(paths.fcntl, "lockf", no_locks)
    assert open_run(tmp_path) == tmp_path
    assert ".last.0123abcd.part.pt" in names(tmp_path)
