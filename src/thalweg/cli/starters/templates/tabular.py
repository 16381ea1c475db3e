"""Rows of a table: which strategy trains this model best?

    thalweg compare my.py:task

The data are made up, so that the file runs as it is: put your own into ``parts``, and your own network into ``model``.
"""

import thalweg
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

FEATURES = 20  # of a row
CLASSES = 3


class Model(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, CLASSES))


def model() -> nn.Module:
    """Returns a new model; its weights are drawn from torch's generator, which every seed seeds."""
    return Model()


def made_up(count: int, seed: int) -> TensorDataset:
    """Returns rows (count, FEATURES), and the class of each (count,)."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, FEATURES, generator=generator)
    weights = torch.randn(FEATURES, CLASSES, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(count, CLASSES, generator=generator)
    return TensorDataset(rows, (rows.square() @ weights + noise).argmax(1))


def parts() -> tuple[Dataset, Dataset, Dataset]:
    """Returns the examples to learn from, those that tuning looks at, and those that judge once, at the end."""
    return made_up(1000, seed=1), made_up(300, seed=2), made_up(300, seed=3)


def task() -> thalweg.Task:
    train, valid, test = parts()  # data sets whose examples are (input, target), or DataLoaders of these
    return thalweg.Task(
        model,
        train,
        valid,
        test,
        nn.functional.cross_entropy,  # or your own: (output, target) -> mean over the batch
        batch_size=50,
        name="tabular",
        steps=200,  # gradient evaluations of a run: as many as your model needs until it hardly improves
    )
