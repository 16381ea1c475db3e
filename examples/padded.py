"""Examples of different lengths, which a collate_fn pads.

The command is ``thalweg compare padded.py:task --strategies adam,rmsprop``.
"""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

import thalweg


def examples(count, seed):
    """Returns pairs of a sequence and whether its sum is positive."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 12, (count,), generator=generator).tolist()
    sequences = [torch.randn(length, 1, generator=generator) for length in lengths]
    return [(sequence, int(sequence.sum() > 0)) for sequence in sequences]


def collate(examples):
    sequences, labels = zip(*examples, strict=True)
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    return pad_sequence(sequences, batch_first=True), lengths, torch.tensor(labels)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(1, 16, batch_first=True)
        self.head = nn.Linear(16, 2)

    def forward(self, padded, lengths):
        packed = pack_padded_sequence(padded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return self.head(self.gru(packed)[1][0])


def step(model, batch):
    padded, lengths, labels = batch
    return nn.functional.cross_entropy(model(padded, lengths), labels)


def evaluate(model, batches):
    hits = [model(padded, lengths).argmax(1) == labels for padded, lengths, labels in batches]
    return {"accuracy": torch.cat(hits).double().mean()}


def task():
    parts = examples(600, 0), examples(200, 1), examples(200, 2)
    return thalweg.Task(
        Recurrent, *parts, step=step, evaluate=evaluate, collate_fn=collate, name="padded", batch_size=30, steps=100
    )
