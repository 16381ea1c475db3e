"""A LightningModule that logs in every way, its data, and their task."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from thalweg.adapters import lightning
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.task import materialize

pl = pytest.importorskip("pytorch_lightning", reason="pytorch_lightning is not installed")
torchmetrics = pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")

X = torch.randn(140, 6, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


class Module(pl.LightningModule):
    """It logs in every way: numbers, metrics, collections, at the end of an epoch, and what is no metric of one."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        self.training_accuracy = torchmetrics.Accuracy("multiclass", num_classes=3)
        self.accuracy = torchmetrics.Accuracy("multiclass", num_classes=3, average="macro")
        kinds = [torchmetrics.Precision("multiclass", num_classes=3), torchmetrics.Recall("multiclass", num_classes=3)]
        self.several = torchmetrics.MetricCollection(kinds, prefix="val_")
        self.mean = torchmetrics.MeanMetric()

    def training_step(self, batch, batch_idx):
        logits = self.network(batch[0])
        loss = nn.functional.cross_entropy(logits, batch[1])
        self.training_accuracy(logits, batch[1])
        self.log_dict({"loss": loss, "accuracy": self.training_accuracy}, prog_bar=True)
        return {"loss": loss}

    def validation_step(self, batch):
        logits = self.network(batch[0])
        loss = nn.functional.cross_entropy(logits, batch[1])
        self.accuracy(logits, batch[1])
        self.several(logits, batch[1])
        self.mean.update(loss)
        self.log("val_acc", self.accuracy, on_step=False, on_epoch=True)
        self.log_dict({"val_loss": loss, "val_count": float(len(logits))}, batch_size=len(logits))
        self.log("val_sum", loss, reduce_fx="sum")
        self.log("val_worst", loss, reduce_fx=torch.max)
        self.log("val_now", loss, on_epoch=False, on_step=True)
        self.log_dict(self.several)

    def on_validation_epoch_end(self):
        self.log("val_mean", self.mean.compute())
        self.mean.reset()

    def test_step(self, batch, batch_idx):
        self.accuracy(self.network(batch[0]), batch[1])
        self.log("test_acc", self.accuracy)

    def configure_optimizers(self):
        return torch.optim.SGD(
            [{"params": self.network[0].parameters()}, {"params": self.network[2].parameters(), "lr": 0.02}], lr=0.1
        )


class Data(pl.LightningDataModule):
    def setup(self, stage):
        self.parts = torch.utils.data.random_split(TensorDataset(X, Y), [80, 35, 25])

    def train_dataloader(self):
        return DataLoader(self.parts[0], batch_size=10, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.parts[1], batch_size=10)  # batches of 10, 10, 10 and 5

    def test_dataloader(self):
        return DataLoader(self.parts[2], batch_size=10)


def task(module=Module, data=None, **options):
    return lightning(module, data or Data(), **{"steps": 12, **options})


def context_of(given):
    return TaskContext(given, materialize(given), torch.device("cpu"))
