"""The examples of a task. What a batch is, is known here, in ``nested``, ``reading`` and ``streaming`` alone."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from thalweg.compare.task.nested import leaves, mapped, moved, size_of
from thalweg.stages import Batches
from thalweg.tensors import generator

T = TypeVar("T")
Batch = Any  # (input, target, and what is learned beside the target); or whatever a task's own step takes
CHUNK = 1024  # examples that are evaluated at a time
CHUNK_BYTES = 2**26  # of the inputs that are evaluated at a time
PERMUTATIONS = 64  # epochs whose order is kept
SAMPLE = 32  # examples that are read twice, and by which data that are read are told from others
ORDERS = 128  # seeds whose orders are kept


def input_of(batch: Batch) -> Any:
    """Returns what the model takes of a batch."""
    return batch[0]


def target_of(batch: Batch) -> Any:
    """Returns what the loss takes of a batch, beside the model's output."""
    return batch[1]


class Split(ABC):
    """The examples of one part of a task.

    A batch is named by a row of whole numbers, so that all trials that share a seed share it: positions
    ``(batch,)`` of examples in memory, or the seed and the step ``(2,)`` of batches that are read.

    Attributes:
        part: the name of the part in messages.
        how: how the examples are read, in words; empty where they are in memory.
        draws: whether reading an example draws random numbers.
    """

    part: str
    how: str = ""
    draws: bool = False

    @property
    @abstractmethod
    def count(self) -> int | None:
        """The number of examples; None where it is not known."""

    @abstractmethod
    def steps_per_epoch(self, batch_size: int) -> float:
        """Returns the number of minibatches of an epoch; infinite where it is not known."""

    @abstractmethod
    def rows(self, seed: int, start: int, stop: int, batch_size: int) -> Tensor:
        """Returns the rows ``(stop - start, …)`` that name the minibatches of a run under a seed."""

    def expect(self, rows: Tensor) -> None:
        """Announces the rows that will be asked for, in their order."""
        return

    @abstractmethod
    def batch(self, rows: Tensor) -> Batch:
        """Returns the batch that a row names, or those of several models, stacked."""

    @abstractmethod
    def large(self, rows: Tensor) -> Batch:
        """Returns the examples of the batches that several rows name as one batch."""

    @abstractmethod
    def chunks(self, size: int | None = None) -> Iterable[Batch]:
        """Returns all examples in order, in batches, which can be iterated over again."""

    @abstractmethod
    def known_by(self) -> list[Tensor]:
        """Returns the tensors by which the examples are told from others."""

    def tensors(self) -> list[Tensor]:
        """Returns the tensors that all trials share, which none may modify."""
        return []

    @abstractmethod
    def to(self, device: torch.device) -> "Split":
        """Returns the examples, whose batches are on the device."""

    def head(self, size: int) -> Batch:
        """Returns the first examples as a batch, of which there may be fewer."""
        return next(iter(self.chunks(size)))

    def evaluate(
        self,
        model: Callable[[Any], Any],
        score: Callable[[Any, Any], T],
        chunk: int | None = CHUNK,
        dim: int = 0,
    ) -> T:
        """Returns the score of the model's outputs for all examples, computed in chunks and without gradients.

        Arguments:
            model: gives the outputs of a chunk.
            score: ``(outputs, targets) -> score`` of all examples.
            chunk: examples at a time; None for as many as a batch has.
            dim: the outputs' dimension that counts examples; 1 where the model is many, stacked.
        """
        with torch.no_grad():
            pairs = [(model(input_of(batch)), target_of(batch)) for batch in self.chunks(chunk)]
            outputs, targets = zip(*pairs, strict=True)
            return score(torch.cat(outputs, dim=dim), torch.cat(targets))


@dataclass(frozen=True, eq=False)
class HeldSplit(Split):
    """Examples in memory.

    Arguments:
        held: all of them as one batch: tensors whose first dimension is the example.
        part: the name of the part in messages.
        is_read: whether they were read from a data set, which could also be read anew each time.
        batch_size: examples of a batch when all are evaluated; None for as many as is fast.

    >>> split = HeldSplit((torch.arange(6.0).view(3, 2), torch.tensor([0, 1, 0])))
    >>> [part.shape for part in split.batch(torch.tensor([[0, 2], [1, 1]]))]  # of two lanes
    [torch.Size([2, 2, 2]), torch.Size([2, 2])]
    >>> split.evaluate(torch.nn.Flatten(), lambda output, target: output.sum().item())
    15.0
    """

    held: Batch
    part: str = "training"
    is_read: bool = False
    batch_size: int | None = None

    def __len__(self) -> int:
        return size_of(self.held)

    @property
    def count(self) -> int:
        return len(self)

    @property
    def input(self) -> Any:
        """The inputs of all examples."""
        return input_of(self.held)

    @property
    def target(self) -> Any:
        """The targets of all examples."""
        return target_of(self.held)

    def steps_per_epoch(self, batch_size: int) -> float:
        return len(self) / batch_size

    def rows(self, seed: int, start: int, stop: int, batch_size: int) -> Tensor:
        return order_of(seed, len(self), batch_size).rows(start, stop).to(next(leaves(self.held)).device)

    def batch(self, rows: Tensor) -> Batch:
        return mapped(lambda tensor: tensor[rows], self.held)

    def large(self, rows: Tensor) -> Batch:
        return self.batch(rows.reshape(-1))

    def chunks(self, size: int | None = None) -> Iterable[Batch]:
        bytes_each = sum(t.numel() * t.element_size() for t in leaves(self.held)) / len(self)
        return _Chunks(self, min(size or self.batch_size or CHUNK, max(1, int(CHUNK_BYTES / max(1, bytes_each)))))

    def known_by(self) -> list[Tensor]:
        return list(leaves(self.batch(torch.tensor(sample(len(self)))) if self.is_read else self.held))

    def tensors(self) -> list[Tensor]:
        return list(leaves(self.held))

    def to(self, device: torch.device) -> "HeldSplit":
        return replace(self, held=moved(self.held, device))

    def first(self, count: int) -> "HeldSplit":
        """Returns the first examples, of which there may be fewer."""
        return self.map(lambda tensor: tensor[:count])

    def map(self, function: Callable[[Tensor], Tensor]) -> "HeldSplit":
        """Returns the examples with the function of each of their tensors."""
        return replace(self, held=mapped(function, self.held))

    def beside(self, values: Tensor) -> "HeldSplit":
        """Returns the examples with values ``(n, …)`` that are learned beside the target."""
        return replace(self, held=(*self.held, values))

    def evaluate(
        self,
        model: Callable[[Any], Any],
        score: Callable[[Any, Any], T],
        chunk: int | None = CHUNK,
        dim: int = 0,
    ) -> T:
        with torch.no_grad():
            return score(torch.cat([model(input_of(part)) for part in self.chunks(chunk)], dim=dim), self.target)

    def dataset(self) -> TensorDataset:
        """Returns the examples as a dataset."""
        return TensorDataset(*self.held)

    def batches(self, batch_size: int, seed: int) -> Batches:
        """Returns minibatches for the training loop, each epoch in a new order, a last short one left out."""
        return Batches(*self.held, batch_size=min(batch_size, len(self)), seed=seed, drop_last=True)


@dataclass(frozen=True)
class _Chunks:
    """The examples in memory, so many at a time."""

    split: HeldSplit
    size: int

    def __len__(self) -> int:
        return math.ceil(len(self.split) / self.size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.split), self.size):
            yield mapped(lambda tensor: tensor[start : start + self.size], self.split.held)  # noqa: B023 (used at once)


@dataclass(frozen=True, eq=False)
class Examples:
    """The examples of a task, in three parts."""

    train: Split
    valid: Split
    test: Split

    @property
    def parts(self) -> tuple[Split, Split, Split]:
        """The parts, in their order."""
        return self.train, self.valid, self.test

    def tensors(self) -> list[Tensor]:
        """Returns the tensors that all trials share, part by part."""
        return [tensor for part in self.parts for tensor in part.tensors()]

    def known_by(self) -> list[Tensor]:
        """Returns the tensors by which the examples are told from others, part by part."""
        return [tensor for part in self.parts for tensor in part.known_by()]

    def to(self, device: torch.device) -> "Examples":
        """Returns the examples, whose batches are on the device."""
        return Examples(*[part.to(device) for part in self.parts])


def names_of(rows: Tensor) -> list[tuple[int, int]]:
    """Returns the seeds and the steps that rows ``(n, 2)`` name."""
    return [(int(seed), int(t)) for seed, t in rows.tolist()]


def sample(count: int) -> list[int]:
    """Returns the positions of a few of so many examples, spread evenly.

    >>> sample(5), sample(1000)[:3]
    ([0, 1, 2, 3, 4], [0, 31, 62])
    """
    return sorted({i * count // SAMPLE for i in range(SAMPLE)})


@lru_cache(ORDERS)
def order_of(seed: int, rows: int, batch: int) -> "Order":
    """Returns the order of the examples under a seed."""
    return Order(seed, rows, batch)


class Order:
    """Row numbers of the minibatches of one seed: a new permutation each epoch, the short last batch dropped."""

    def __init__(self, seed: int, rows: int, batch: int) -> None:
        self.seed, self.count, self.batch = seed, rows, batch
        self.per_epoch = rows // batch
        self.epochs: dict[int, Tensor] = {}

    def epoch(self, number: int) -> Tensor:
        """Returns the row numbers ``(steps, batch)`` of an epoch."""
        if number not in self.epochs:
            if len(self.epochs) > PERMUTATIONS:
                self.epochs.clear()
            order = torch.randperm(self.count, generator=generator(self.seed, "order", number))
            self.epochs[number] = order[: self.per_epoch * self.batch].view(self.per_epoch, self.batch)
        return self.epochs[number]

    def rows(self, start: int, stop: int) -> Tensor:
        """Returns the row numbers ``(stop - start, batch)`` of the steps from ``start`` to ``stop``."""
        pieces = []
        while start < stop:
            number, offset = divmod(start, self.per_epoch)
            piece = self.epoch(number)[offset : offset + stop - start]
            pieces.append(piece)
            start += len(piece)
        return torch.cat(pieces)
