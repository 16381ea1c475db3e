"""A run of a method that takes a minibatch a step, and evaluates its gradient once."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.guidance import Guidance
from thalweg.compare.execution.job import Job


class StepRun(ABC):
    """One model in training; ``model`` is where it is now."""

    context: TaskContext
    job: Job
    guidance: Guidance
    model: nn.Module

    def advance(self, t: int, end: int) -> Tensor:
        """Trains from step ``t`` to ``end``; returns the minibatch losses ``(end - t,)``."""
        rows = self.guidance.minibatches(self.context, self.job, t, end)
        self.context.data.train.expect(rows)
        self.prepare(t, end)
        self.model.train()
        return torch.stack([self.step(rows[i], t + i) for i in range(end - t)])

    @abstractmethod
    def prepare(self, start: int, stop: int) -> None:
        """Computes what steps ``start`` to ``stop`` need beforehand."""

    @abstractmethod
    def step(self, rows: Tensor, t: int) -> Tensor:
        """Takes one training step and returns the minibatch loss before it."""

    @contextmanager
    def shown(self) -> Iterator[nn.Module]:
        """Runs its body with what is judged in the model: its parameters as they are, or their average."""
        yield self.model

    @abstractmethod
    def snapshot(self) -> dict[str, Tensor]:
        """Returns all that the rest of the run depends on."""
