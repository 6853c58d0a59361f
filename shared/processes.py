"""
One process for each GPU. torchrun starts them and tells each its number; without torchrun there is one.

Every function also works with a single process; then nothing is exchanged. The last two functions let Ctrl-C stop a
training cleanly.
"""
import os
import signal
import sys
import threading
from datetime import timedelta

import torch
import torch.distributed as dist

STOP = {"signal": None,      # the one that asked the training to stop
        "told": False}       # whether stopped() has returned True


def start_processes():
    """
    Joins the processes that torchrun started and chooses this one's device: its GPU, or the CPU where there is none.

    returns  rank (0 to ranks - 1; the process with rank 0 writes the files), ranks, device
    """
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if ranks > 1:
        backend, device_id = ("nccl", device) if device.type == "cuda" else ("gloo", None)
        # While rank 0 evaluates the others wait, so the limit is generous.
        dist.init_process_group(backend, device_id=device_id, timeout=timedelta(hours=3))
    return rank, ranks, device


def share_gradients(network, device, ranks):
    """The network itself, or, for several processes, one that averages their gradients in each backward pass."""
    if ranks == 1:
        return network
    return torch.nn.parallel.DistributedDataParallel(network, [device] if device.type == "cuda" else None)


def average(values, ranks):
    """{name: scalar tensor} of this process -> {name: float}, the mean over all processes."""
    numbers = torch.stack(list(values.values()))
    if ranks > 1:
        dist.all_reduce(numbers)
    return dict(zip(values, (numbers / ranks).tolist()))


def end_processes():
    """Waits for all processes at the end of a training, and dissolves their group."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def has_bfloat16(device):
    """
    Whether the device computes in bfloat16 itself: then the network runs in it, otherwise in float32.

    Recent server CPUs and some laptops do (avx512_bf16, amx_bf16). Releases of PyTorch without get_capabilities cannot
    tell, and train in float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return device.type == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def stoppable(steps, ranks=1):
    """
    Yields the steps of a training. After Ctrl-C or a SIGTERM stopped() returns True, and the training writes a
    checkpoint. The step in which it calls stopped() and gets True is the last. A second Ctrl-C ends it at once.

    Several processes would not stop in the same step, so they end at once, and their last checkpoint remains.

    steps   a range
    raises  KeyboardInterrupt with a message and the signal's number, for run() in shared/errors.py
    """
    main_process = os.getpid()

    def stop(number, frame):
        if os.getpid() != main_process:                      # a process that loads images, a copy of this one
            return
        if STOP["signal"] or ranks > 1:
            raise KeyboardInterrupt("Interrupted. The same command continues from the last checkpoint", number)
        STOP["signal"] = number
        print("\nStopping after this step. Press Ctrl-C again to stop at once.", file=sys.stderr)

    STOP.update(signal=None, told=False)
    before = {}
    if threading.current_thread() is threading.main_thread():                # Python allows it nowhere else
        # torchrun ends its processes with SIGTERM. A shell may have started this one so that it ignores Ctrl-C.
        for number in [signal.SIGINT] if ranks > 1 else [signal.SIGINT, signal.SIGTERM]:
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, stop)
    try:
        for step in steps:
            yield step
            if STOP["told"] and step < steps[-1]:
                raise KeyboardInterrupt(f"Stopped after step {step}. The same command continues with step {step + 1}",
                                        STOP["signal"])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stopped():
    """Whether the training has been asked to stop after the step that is running."""
    STOP["told"] = STOP["signal"] is not None
    return STOP["told"]
