"""Segmentation: logits of shape (N, C, H, W), a label for each pixel, and pixels without a label.

The command is ``thalweg compare segmentation.py:task --strategies adam,momentum,nesterov``.
"""

import torch
from torch import nn
from torch.utils.data import TensorDataset

import thalweg

UNLABELLED = 255


def images(count, seed):
    """Returns noisy images of a bright square, and its pixels as labels, of which a tenth are unknown."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(2, 10, (count, 2), generator=generator)
    labels = torch.zeros(count, 16, 16, dtype=torch.long)
    for label, (i, j) in zip(labels, corners.tolist(), strict=True):
        label[i : i + 5, j : j + 5] = 1
    x = labels[:, None] + 0.7 * torch.randn(count, 1, 16, 16, generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = UNLABELLED
    return TensorDataset(x, labels)


def model():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1)
    )


def task():
    parts = images(200, 0), images(60, 1), images(60, 2)
    loss = nn.CrossEntropyLoss(ignore_index=UNLABELLED)
    return thalweg.Task(model, *parts, loss, name="segmentation", batch_size=20, steps=100)
