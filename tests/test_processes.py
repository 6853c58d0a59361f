"""
One process does everything itself; of several, each has the mean of all gradients and of all losses. Ctrl-C ends a
training after a whole step.
"""
import json
import os
import signal
import subprocess
import sys

import pytest
import torch
import torch.nn as nn

from shared.processes import average, has_bfloat16, share_gradients, start_processes, stoppable, stopped


def test_one_process(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    rank, ranks, device = start_processes()
    assert (rank, ranks, device.type) == (0, 1, "cuda" if torch.cuda.is_available() else "cpu")
    network = nn.Linear(1, 1)
    assert share_gradients(network, device, ranks) is network
    assert average({"xy": torch.tensor(0.5), "total": torch.tensor(2.0)}, ranks) == {"xy": 0.5, "total": 2.0}


@pytest.mark.parametrize("capabilities, expected", [
    ({"avx512_bf16": True, "amx_bf16": False}, True),
    ({"avx512_bf16": False, "amx_bf16": True}, True),
    ({"avx512_bf16": False, "amx_bf16": False, "avx512_f": True}, False),      # would only emulate it, slowly
    ({}, False)])                                                             # another kind of CPU
def test_bfloat16_on_the_cpu(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_bfloat16(torch.device("cpu")) is expected
    assert not has_bfloat16(torch.device("mps"))


def test_bfloat16_with_an_older_pytorch(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
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


# ---- Ctrl-C

@pytest.fixture
def ctrl_c():
    """Ctrl-C works as in a terminal, even if these tests run in the background, where the shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(numbers, at, ranks=1, steps=range(1, 5)):
    """
    Goes through the steps. In step `at` the process gets signals of these numbers; in step -`at` it gets them at the
    very end, when it has asked stopped() already.

    returns  the steps that were begun, those completed, those in which stopped() was True at their end, and the
             arguments of the KeyboardInterrupt, or None
    """
    begun, completed, last = [], [], []
    try:
        for step in stoppable(steps, ranks):
            begun.append(step)
            for number in numbers if step == at else []:
                os.kill(os.getpid(), number)
            completed.append(step)
            if stopped():
                last.append(step)
            for number in numbers if step == -at else []:
                os.kill(os.getpid(), number)
    except KeyboardInterrupt as error:
        return begun, completed, last, error.args
    return begun, completed, last, None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_step_that_is_running_is_completed(number, capsys, ctrl_c):
    assert interrupted([number], at=2) == (
        [1, 2], [1, 2], [2], ("Stopped after step 2. The same command continues with step 3", number))
    assert capsys.readouterr().err == "\nStopping after this step. Press Ctrl-C again to stop at once.\n"
    assert interrupted([], at=2) == ([1, 2, 3, 4], [1, 2, 3, 4], [], None)                   # it begins anew
    assert interrupted([number], at=4) == ([1, 2, 3, 4], [1, 2, 3, 4], [4], None)            # there is nothing left
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL                # as before


def test_no_step_is_the_last_one_before_it_is_told(ctrl_c):
    # Its checkpoint would be missing: the signal came after the training had asked.
    assert interrupted([signal.SIGINT], at=-2) == (
        [1, 2, 3], [1, 2, 3], [3], ("Stopped after step 3. The same command continues with step 4", signal.SIGINT))


def test_what_the_shell_lets_it_ignore_it_ignores(ctrl_c):
    signal.signal(signal.SIGINT, signal.SIG_IGN)                             # as for "python train.py &" in a script
    assert interrupted([signal.SIGINT], at=2) == ([1, 2, 3, 4], [1, 2, 3, 4], [], None)


def test_the_second_one_stops_at_once(ctrl_c):
    assert interrupted([signal.SIGINT] * 2, at=2) == (
        [1, 2], [1], [], ("Interrupted. The same command continues from the last checkpoint", signal.SIGINT))


def test_several_processes_stop_at_once(ctrl_c):
    # They would wait for each other if they stopped in different steps. torchrun's SIGTERM ends them without a word.
    assert interrupted([signal.SIGINT], at=2, ranks=2)[1:] == (
        [1], [], ("Interrupted. The same command continues from the last checkpoint", signal.SIGINT))
    for _ in stoppable(range(1), ranks=2):
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


TRAINING = """
import sys, time, torch
from shared.batches import load_batches
from shared.errors import run
from shared.processes import stoppable, stopped

class Slow(torch.utils.data.Dataset):
    def __getitem__(self, index):
        time.sleep(0.05)
        return index

def main():
    loader = load_batches(Slow(), ([step] for step in range(1, 1001)), list, 2, torch.device("cpu"))
    for step in stoppable(range(1, 1001)):
        assert next(loader) == [step]
        if stopped():
            print("saved", step, flush=True)
        elif step == 1:
            print("ready", flush=True)

if __name__ == "__main__":
    run(main)
"""


@pytest.mark.slow
def test_ctrl_c_as_a_terminal_sends_it(tmp_path, ctrl_c):
    # To the training and to the processes that load its images, at the same moment.
    (tmp_path / "training.py").write_text(TRAINING)
    training = subprocess.Popen([sys.executable, str(tmp_path / "training.py")], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert training.stdout.readline() == "ready\n"
    os.killpg(training.pid, signal.SIGINT)
    out, err = training.communicate(timeout=60)
    step = int(out.split()[1])
    assert out == f"saved {step}\n" and training.returncode == 130
    assert err.split("\n") == ["", "Stopping after this step. Press Ctrl-C again to stop at once.", "",
                               f"Stopped after step {step}. The same command continues with step {step + 1}", ""]
