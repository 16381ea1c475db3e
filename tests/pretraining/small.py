"""A small task of images, and what the tests of pretraining share."""

from functools import partial

import torch
from torch import nn

from thalweg import optim
from thalweg.stages import Batches, Measures, Stage, supervised

LOSS = nn.functional.cross_entropy


def data(count=60):
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(0))
    return x, x[:, :3].argmax(dim=1)


def net(dropout=0.0):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(6, 12),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(12, 10),
        nn.Tanh(),
        nn.Linear(10, 8),
        nn.Tanh(),
        nn.Linear(8, 3),
    )


def joint(**options):
    settings = {
        "objective": supervised(LOSS),
        "data": Batches(*data(), batch_size=20),
        "optimizer": partial(optim.SGD, lr=0.1),
        "name": "joint",
    }
    budget = {} if "epochs" in options else {"steps": 9}
    return Stage(**{**settings, **budget, **options})


def judged():
    return Measures([data()], loss=LOSS)


def copy(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}
