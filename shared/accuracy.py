"""The accuracy of a classifier on a data set."""
import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from shared.batches import ignore_ctrl_c


def count_correct(logits, labels):
    """logits (B, C), labels (B,) -> for how many images the class has the highest logit, and one of the highest five"""
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices               # (B, 5)  the highest first
    right = best == labels[:, None]                                          # (B, 5)
    return right[:, 0].sum().item(), right.any(1).sum().item()


@torch.inference_mode()
def top_accuracies(network, dataset, batch_size, workers, device):
    """The share of the images in the data set that count_correct counts: top-1 and top-5 accuracy"""
    network.eval()
    loader = DataLoader(dataset, batch_size, num_workers=workers, worker_init_fn=ignore_ctrl_c)
    correct = np.zeros(2)
    for images, labels in tqdm(loader, desc="evaluating", leave=False):
        logits = network(images.to(device, memory_format=torch.channels_last))               # (B, C)
        correct += count_correct(logits, labels.to(device))
    return (correct / len(dataset)).tolist()
