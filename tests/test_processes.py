"""One process does everything itself; of several, each has the mean of all gradients and of all losses."""
import json
import os
import subprocess
import sys

import pytest
import torch
import torch.nn as nn

from shared.processes import average, has_bfloat16, share_gradients, start_processes


def test_one_process(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    rank, ranks, device = start_processes()
    assert (rank, ranks, device.type) == (0, 1, "cuda" if torch.cuda.is_available() else "cpu")
    network = nn.Linear(1, 1)
    assert share_gradients(network, device, ranks) is network
    assert average({"xy": torch.tensor(0.5), "total": torch.tensor(2.0)}, ranks) == {"xy": 0.5, "total": 2.0}
    assert not has_bfloat16(torch.device("cpu"))


PROGRAM = """
import json, sys, torch
from shared.processes import average, end_processes, share_gradients, start_processes

rank, ranks, device = start_processes()
network = torch.nn.Linear(1, 1, bias=False)
torch.nn.init.constant_(network.weight, 5 + rank)
model = share_gradients(network, device, ranks)
gradients = []
for x in ([1.0], [3.0])[rank], ([10.0], [20.0])[rank]:
    model(torch.tensor([x])).sum().backward()
    gradients.append(network.weight.grad.item())
means = average({"a": torch.tensor(rank + 1.0), "b": torch.tensor(4.0)}, ranks)
with open(f"{sys.argv[1]}/{rank}.json", "w") as file:
    json.dump([rank, ranks, network.weight.item(), gradients, means], file)
end_processes()
"""


def test_two_processes_share_their_gradients(tmp_path):
    # The output is w x, so the gradient is x: 1 in process 0 and 3 in process 1, and both get the mean, 2. A second
    # backward pass (the next subdivision) adds the mean of 10 and 20: 17. Both begin with the weight of process 0.
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
               str(tmp_path / "program.py"), str(tmp_path)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for rank in range(2):
        number, ranks, weight, gradients, means = json.loads((tmp_path / f"{rank}.json").read_text())
        assert (number, ranks, weight) == (rank, 2, 5)
        assert gradients == pytest.approx([2, 2 + 15])
        assert means == {"a": 1.5, "b": 4}
