"""A model with two inputs.

The command is ``thalweg compare two_inputs.py:task --strategies sgd,adam``.
"""

import torch
from torch import nn
from torch.utils.data import TensorDataset

import thalweg


class Rated(nn.Module):
    """Predicts the rating that a user, one of 20, gives to an item with these features."""

    def __init__(self):
        super().__init__()
        self.users = nn.Embedding(20, 8)
        self.items = nn.Linear(6, 8)

    def forward(self, user, item):
        return (self.users(user) * self.items(item)).sum(1)


def ratings(count, seed):
    tastes = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    users, items = torch.randint(20, (count,), generator=generator), torch.randn(count, 6, generator=generator)
    noise = 0.3 * torch.randn(count, generator=generator)
    return TensorDataset(users, items, (tastes[users] * items).sum(1) + noise)


def step(model, batch):
    user, item, rating = batch
    return nn.functional.mse_loss(model(user, item), rating)


def task():
    parts = ratings(2000, 1), ratings(500, 2), ratings(500, 3)
    return thalweg.Task(Rated, *parts, step=step, name="two-inputs", batch_size=50, steps=200)
