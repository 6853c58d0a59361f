"""
The tests train on the sample, PRESET = "sample" in the three dataset.py, also in the scripts that they start. Trainings
inside a test compute in float32 on every machine; the scripts that a test starts use bfloat16 where the CPU has it.
"""
import os

import pytest
import torch

os.environ["PRESET"] = "sample"


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {}, raising=False)
