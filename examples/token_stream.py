"""A language model on an endless stream of tokens, judged by its perplexity.

The command is ``thalweg compare token_stream.py:task --strategies adam,adamw@warmup-cosine``.
"""

import math

import torch
from torch import nn
from torch.utils.data import IterableDataset

import thalweg

TOKENS, LENGTH = 12, 16


def sequence(generator=None):
    """Returns tokens each of which follows from the one before it, but for a sixth of them."""
    tokens = torch.randint(TOKENS, (LENGTH + 1,), generator=generator).tolist()
    follows = (torch.rand(LENGTH + 1, generator=generator) < 5 / 6).tolist()
    for i in range(1, LENGTH + 1):
        if follows[i]:
            tokens[i] = (5 * tokens[i - 1] + 1) % TOKENS
    return torch.tensor(tokens)


class Stream(IterableDataset):
    """Never ends; the study seeds torch's generator, from which it draws."""

    def __iter__(self):
        while True:
            yield sequence()


class Held(IterableDataset):
    """The same sequences each time."""

    def __init__(self, seed):
        self.seed = seed

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed)
        return (sequence(generator) for _ in range(128))


def model():
    return nn.Sequential(nn.Embedding(TOKENS, 16), nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, TOKENS))


def step(model, tokens):
    logits = model(tokens[:, :-1])
    return nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def evaluate(model, batches):
    losses = [step(model, batch) for batch in batches]
    return {"perplexity": math.exp(torch.stack(losses).mean())}


def task():
    return thalweg.Task(
        model, Stream(), Held(1), Held(2), step=step, evaluate=evaluate, name="token-stream", batch_size=32, steps=150
    )
