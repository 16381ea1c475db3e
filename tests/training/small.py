"""A small task with dropout and batch norm, and what the tests of training share."""

from functools import partial

import torch
from torch import nn

from thalweg import optim
from thalweg.stages import Batches, Stage, supervised

LOSS = nn.functional.cross_entropy


def data(count=50, dtype=torch.float32):
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return x, x[:, :3].argmax(dim=1)


def net(dtype=torch.float32, dropout=0.3):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)
    ).to(dtype)


def stage(**options):
    settings = {
        "objective": supervised(LOSS),
        "data": Batches(*data(), batch_size=16),
        "optimizer": partial(optim.Adam, lr=0.01),
    }
    budget = {} if "epochs" in options else {"steps": 12}
    return Stage(**{**settings, **budget, **options})


def copy(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


class Cut(BaseException):
    """In place of a power cut."""


class CutAfter:
    """Cuts the run off after some steps."""

    def __init__(self, steps):
        self.left = steps

    def stage(self, name, done, total):
        pass

    def advance(self):
        self.left -= 1
        if self.left < 0:
            raise Cut

    def row(self, row):
        pass
