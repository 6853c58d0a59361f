"""What a user can put right is said in one line, without a traceback, wherever it was found."""
import subprocess
import sys

import pytest
import torch

from shared.errors import InputError, check_choice, run


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
