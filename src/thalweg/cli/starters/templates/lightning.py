"""A LightningModule and its data: which strategy trains it best?

    thalweg compare my.py:task --strategies adam,adamw@cosine,my.py:own

The data are made up, so that the file runs as it is: put your own into ``data``, and your own module into ``model``.
"""

from typing import Any

import pytorch_lightning as pl
import thalweg
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

FEATURES = 20  # of a row
CLASSES = 3


class Model(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, CLASSES))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        rows, classes = batch
        return nn.functional.cross_entropy(self.network(rows), classes)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        rows, classes = batch
        self.log("val_acc", (self.network(rows).argmax(1) == classes).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def made_up(count: int, seed: int) -> TensorDataset:
    """Returns rows (count, FEATURES), and the class of each (count,)."""
    rows = torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(seed))
    weights = torch.randn(FEATURES, CLASSES, generator=torch.Generator().manual_seed(0))
    return TensorDataset(rows, (rows.square() @ weights).argmax(1))


class Data(pl.LightningDataModule):
    def train_dataloader(self) -> DataLoader:
        return DataLoader(made_up(1000, seed=1), batch_size=50, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(made_up(300, seed=2), batch_size=100)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(made_up(300, seed=3), batch_size=100)


def model() -> Any:
    """Returns a new module; its weights are drawn from torch's generator, which every seed seeds."""
    return Model()


def data() -> Any:
    """Returns what has train_dataloader, val_dataloader and test_dataloader."""
    return Data()


def task() -> thalweg.Task:
    # The metric is the first that validation_step logs; metric="val_acc" names another one.
    return thalweg.adapters.lightning(model, data(), steps=200)


own = thalweg.adapters.lightning_strategy(task())  # the optimizer that configure_optimizers returns, as a strategy
