"""A task so small that a whole study takes about a second, and what goes wrong with it on demand."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import thalweg

X = torch.randn(700, 6, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(dim=1)


def task(train=None, loss=nn.functional.cross_entropy):
    """Returns the task; its loss is judged, so that no number is round."""
    parts = [TensorDataset(X[a:b], Y[a:b]) for a, b in ((0, 600), (600, 650), (650, 700))]
    return thalweg.Task(
        lambda: nn.Linear(6, 3), train or parts[0], *parts[1:], loss, "loss", batch_size=20, name="victim"
    )


class _Loaded(Dataset):
    """The training data, read one by one; the 500th cannot be, while the environment says so."""

    def __len__(self):
        return 600

    def __getitem__(self, i):
        if i == 499 and "CHAOS" in os.environ:
            raise OSError("the 500th cannot be read")
        return X[i], Y[i]


def loaded():
    """Returns the task with data that may fail while they are loaded."""
    return task(_Loaded())


class _Raising:
    """Cross-entropy that raises at the call that the environment names, counted from the first training step."""

    calls = 0

    def __call__(self, output, target):
        if output.requires_grad:
            self.calls += 1
        if self.calls == int(os.environ.get("CHAOS", "0")):
            raise RuntimeError("boom")
        return nn.functional.cross_entropy(output, target)


def raising():
    """Returns the task with a loss that may raise."""
    return task(loss=_Raising())


class Sleepy(torch.optim.SGD):
    """Falls asleep at the step that the environment names, and lets the limit of its trial come at once."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr)
        self.count = 0

    def step(self, closure=None):
        """Steps, or sleeps for an hour."""
        self.count += 1
        if self.count == int(os.environ.get("CHAOS", "0")):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            time.sleep(3600)
        return super().step(closure)


def sleepy(params, lr=0.1):
    """Returns the optimizer that may hang."""
    return Sleepy(params, lr)


class Slow(torch.optim.SGD):
    """Takes its time, so that a process is at work when its machine dies."""

    def step(self, closure=None):
        """Steps after 20 ms."""
        time.sleep(0.02)
        return super().step(closure)


def slow(params, lr=0.1):
    """Returns the slow optimizer."""
    return Slow(params, lr)


class Held(torch.optim.SGD):
    """Stands still in its third trial, once the machine's engines are chosen, where the environment names a file."""

    made = 0

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr)
        Held.made += 1
        self.number = Held.made

    def step(self, closure=None):
        """Steps, or makes the file and waits for its end."""
        if "HELD" in os.environ and self.number == 5:
            Path(os.environ["HELD"]).touch()
            time.sleep(3600)
        return super().step(closure)


def held(params, lr=0.1):
    """Returns the optimizer that may stand still."""
    return Held(params, lr)
