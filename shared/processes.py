"""
One process for each GPU. torchrun starts them and tells each its number; without torchrun there is one.

Every function here also works, and does nothing in particular, when there is one process.
"""
import os
from datetime import timedelta

import torch
import torch.distributed as dist


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
    """Whether the device computes in bfloat16 itself: then the network runs in it, otherwise in float32."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
