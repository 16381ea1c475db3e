"""Batches that are dictionaries, and a model that returns its loss, as those of Hugging Face do.

The command is ``thalweg compare dict_batches.py:task --strategies adam,adamw@cosine,momentum``.
"""

from types import SimpleNamespace

import torch
from torch import nn
from torch.utils.data import Dataset

import thalweg


class Texts(Dataset):
    """Random tokens; the label tells whether one of the first ten kinds is the most frequent."""

    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.randint(30, (count, 12), generator=generator)
        self.labels = (self.tokens < 10).sum(1).gt(4).long()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"input_ids": self.tokens[i], "labels": self.labels[i]}


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(30, 16)
        self.head = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, input_ids, labels=None):
        logits = self.head(self.embedding(input_ids).mean(1))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SimpleNamespace(loss=loss, logits=logits)


def step(model, batch):
    return model(**batch).loss


def evaluate(model, batches):
    hits = [model(**batch).logits.argmax(1) == batch["labels"] for batch in batches]
    return {"accuracy": torch.cat(hits).double().mean()}


def task():
    parts = Texts(1000, 0), Texts(300, 1), Texts(300, 2)
    return thalweg.Task(Classifier, *parts, step=step, evaluate=evaluate, name="dict-batches", steps=200)
