"""What a user can put right is said in one line, without a traceback, wherever it was found."""
import math
import subprocess
import sys

import pytest
import torch

from shared.errors import InputError, check_choice, check_loss, run


def test_check_choice():
    check_choice("yolov3/train.py", "SCHEDULE", "cosine", ("cosine", "steps"))
    with pytest.raises(InputError) as error:
        check_choice("yolov3/train.py", "SCHEDULE", "Cosine", ("cosine", "steps"))
    assert str(error.value) == "yolov3/train.py: SCHEDULE 'Cosine' is none of ('cosine', 'steps')"
    with pytest.raises(InputError, match=r"NETWORK 'A' is none of \('YOLOv3', 'YOLOv3Tiny'\)"):
        check_choice("yolov3/train.py", "NETWORK", "A", {"YOLOv3": 1, "YOLOv3Tiny": 2})      # the keys of a dict


class OneIsDamaged(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index == 1:
            raise InputError("b.jpg: cannot be read as an image")
        return index


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_ends_the_script_with_its_line(workers):
    # A worker process hands the error on as a text of many lines, its traceback first.
    seen = []

    def main():
        for item in torch.utils.data.DataLoader(OneIsDamaged(), num_workers=workers):
            seen.append(item.item())

    with pytest.raises(SystemExit) as exit:
        run(main)
    assert exit.value.code == "b.jpg: cannot be read as an image" and seen == [0]


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 / 0)
    assert run(lambda: None) is None


def test_the_exit_code_is_1():
    program = "from shared.errors import *\ndef main(): raise InputError('a.pt: no such file')\nrun(main)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "a.pt: no such file\n")


def test_ctrl_c_is_one_line(capsys):
    def main():
        raise KeyboardInterrupt                              # as Python does; a training says more

    with pytest.raises(SystemExit) as exit:
        run(main)
    assert exit.value.code == 130 and capsys.readouterr().err == "\nInterrupted\n"


def test_of_several_processes_the_first_one_speaks(capsys, monkeypatch):
    # torchrun starts each process with its RANK, and ends the others soon after the first one has ended. If the error
    # is another process's alone, nothing ends it, and it speaks after a while.
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)

    def main():
        raise InputError("a.pt: no such file")

    def ctrl_c():
        raise KeyboardInterrupt("Interrupted. The same command continues", 2)
    for rank, seconds in [("0", []), ("1", [10])]:
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit, match="a.pt: no such file"):
            run(main)
        assert waited == seconds
        with pytest.raises(SystemExit):
            run(ctrl_c)
    assert capsys.readouterr().err == "\nInterrupted. The same command continues\n"


def test_batchnorm_of_one_value():
    # One image whose map has one cell: the variance of one value is 0, and BatchNorm refuses.
    network = torch.nn.BatchNorm2d(3)
    with pytest.raises(SystemExit, match="^BatchNorm needs more than one value per channel: raise BATCH_SIZE"):
        run(lambda: network(torch.ones(1, 3, 1, 1)))
    with pytest.raises(ValueError, match="not in list"):
        run(lambda: [].index(1))


def test_check_loss():
    check_loss("a/train.py", 7, {"xy": 1.0, "total": 2.0})
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(InputError) as error:
            check_loss("a/train.py", 7, {"xy": 1.0, "total": value})
        assert str(error.value) == (f"a/train.py: the loss of step 7 is not finite: {{'xy': 1.0, 'total': {value}}}. "
                                    "last.pt is unchanged")
