"""Top-1 and top-5 accuracy, worked by hand and compared with a loop over the images."""
import torch
import torch.nn as nn

from shared.accuracy import count_correct, top_accuracies


def test_top_1_and_top_5_worked_by_hand():
    # Seven classes. The first image's class, 2, has the highest logit. The second image's, 6, has the fifth highest,
    # the third image's, 6, only the sixth highest.
    logits = torch.tensor([[0, 1, 9, 2, 3, 4, 5], [9, 8, 7, 6, 0, 1, 2], [9, 8, 7, 6, 5, 0, 2.0]])
    assert count_correct(logits, torch.tensor([2, 6, 6])) == (1, 2)
    # Of three classes, all are among the first five. Two of the three images have the highest logit at their class.
    assert count_correct(logits[:, :3], torch.tensor([2, 0, 2])) == (2, 3)


def test_the_running_averages_are_used_and_left_as_they_are():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 7, 1), nn.BatchNorm2d(7), nn.AdaptiveAvgPool2d(1), nn.Flatten()).train()
    network[1].running_mean.copy_(torch.randn(7))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    dataset = [(torch.rand(3, 8, 8), label) for label in (0, 1, 2, 3, 4, 5, 6, 0, 1, 2)]
    top1, top5 = top_accuracies(network, dataset, 4, 0, torch.device("cpu"))         # batches of 4, 4 and 2
    assert all(value.equal(before[key]) for key, value in network.state_dict().items())
    network.eval()
    ranks = []                                                           # how many classes have a higher logit
    for image, label in dataset:
        logits = network(image[None])[0]
        ranks.append((logits > logits[label]).sum().item())
    assert top1 == sum(rank < 1 for rank in ranks) / 10 and top5 == sum(rank < 5 for rank in ranks) / 10
    assert 0 < top5 < 1
