"""Tasks whose data are drawn: a deep linear network, the factors of a matrix, and addition modulo a prime."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from thalweg.compare.task.builtin.splits import Parts, split
from thalweg.compare.task.task import Task

PRIME = 29
USERS, ITEMS, RANK = 120, 80, 4


def deep_linear() -> Task:
    """Linear map of condition 100 in 16 dimensions, eight linear layers: not convex, without one nonlinearity"""
    drawn = np.random.default_rng(8)
    left, right = (np.linalg.qr(drawn.standard_normal((16, 16)))[0] for _ in range(2))
    x = drawn.standard_normal((3000, 16))
    y = x @ (left * np.geomspace(3, 0.03, 16)) @ right + 0.1 * drawn.standard_normal((3000, 16))
    return Task(
        lambda: nn.Sequential(*(nn.Linear(16, 16, bias=False) for _ in range(8))),
        *split(x, y.astype(np.float32), 2000, 500),
        loss=nn.functional.mse_loss,
        batch_size=64,
        name="deep-linear",
        steps=400,
    )


def _of_positions(*parts: TensorDataset) -> Parts:
    """Returns the parts with their inputs as integers, which embeddings take."""
    return Parts(*(TensorDataset(part.tensors[0].long(), part.tensors[1]) for part in parts))


class _Factors(nn.Module):
    """The rating that user i gives to item j: μ + bᵢ + cⱼ + pᵢᵀqⱼ."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(()))
        self.user, self.item = nn.Embedding(USERS, RANK + 1), nn.Embedding(ITEMS, RANK + 1)

    def forward(self, pair: Tensor) -> Tensor:
        user, item = self.user(pair[:, 0]), self.item(pair[:, 1])
        return self.mean + user[:, 0] + item[:, 0] + (user[:, 1:] * item[:, 1:]).sum(dim=-1)


def factorization() -> Task:
    """Ratings of 120 users for 80 items, embeddings of rank 4: half of the ratings are seen"""
    drawn = np.random.default_rng(8)
    p, q = drawn.standard_normal((USERS, RANK)), drawn.standard_normal((ITEMS, RANK))
    ratings = 3 + 0.5 * drawn.standard_normal((USERS, 1)) + 0.5 * drawn.standard_normal((1, ITEMS)) + p @ q.T / 2
    ratings += 0.3 * drawn.standard_normal(ratings.shape)
    pairs = np.stack(np.meshgrid(np.arange(USERS), np.arange(ITEMS), indexing="ij"), axis=-1).reshape(-1, 2)
    train, valid, test = split(pairs, ratings.reshape(-1).astype(np.float32), 4800, 1200)
    parts = _of_positions(train, valid, test)
    return Task(
        _Factors, *parts, loss=nn.functional.mse_loss, metric="r2", batch_size=128, name="factorization", steps=500
    )


class _Adder(nn.Module):
    """One embedding for both terms, whose sum passes through a hidden layer with the activation x²."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(PRIME, 48)
        self.hidden, self.output = nn.Linear(48, 128), nn.Linear(128, PRIME)

    def forward(self, terms: Tensor) -> Tensor:
        embedded = self.embedding(terms[:, 0]) + self.embedding(terms[:, 1])
        return self.output(self.hidden(embedded).square())


def modular_addition() -> Task:
    """The sum of two numbers modulo 29 from two thirds of all sums: memorized first, and understood later or never"""
    terms = np.stack(np.triu_indices(PRIME), axis=1)  # a + b and b + a are one
    parts = split(terms, terms.sum(axis=1) % PRIME, 290, 70)
    return Task(
        _Adder,
        *_of_positions(*parts),
        loss=nn.functional.cross_entropy,
        batch_size=58,
        name="modular-addition",
        steps=1000,
    )
