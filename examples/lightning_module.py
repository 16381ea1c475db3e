"""A LightningModule and its data module, without a Trainer; its own optimizer is one of the strategies.

The command is ``thalweg compare lightning_module.py:task --strategies adam,lightning_module.py:own``.
"""

import pytorch_lightning as pl  # or: import lightning.pytorch as pl
import torch
import torchmetrics
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import thalweg


class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        self.valid_accuracy = torchmetrics.Accuracy("multiclass", num_classes=10)
        self.test_accuracy = torchmetrics.Accuracy("multiclass", num_classes=10)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.cross_entropy(self.network(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.valid_accuracy(self.network(x), y)
        self.log("val_acc", self.valid_accuracy)

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.test_accuracy(self.network(x), y)
        self.log("test_acc", self.test_accuracy)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=3e-3)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
        return [optimizer], [scheduler]


class Digits(pl.LightningDataModule):
    def setup(self, stage):
        images, digits = load_digits(return_X_y=True)
        data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits))
        self.train, self.valid, self.test = random_split(data, [1000, 300, 497])

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=50, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.valid, batch_size=100)

    def test_dataloader(self):
        return DataLoader(self.test, batch_size=100)


def task():
    return thalweg.adapters.lightning(Classifier, Digits(), name="lightning", steps=100, clip_norm=1.0)


own = thalweg.adapters.lightning_strategy(task())
