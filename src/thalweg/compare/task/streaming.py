"""Batches of a stream, which yields them one after another.

What a stream yields under a seed is a function of that seed and of the step, see :mod:`thalweg.compare.task.reading`.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from thalweg.compare.task.examples import Batch, Split, names_of
from thalweg.compare.task.nested import concatenated, leaves, moved, own, stacked
from thalweg.compare.user_errors import TaskError, user_errors
from thalweg.tensors import derive_seed
from thalweg.tensors.draws import global_states, own_draws, restore_states

READERS = 64  # streams that are open at a time
ENDLESS = 100_000  # batches of a validation or test stream after which it is taken to be endless


@dataclass(eq=False)
class StreamSplit(Split):
    """Batches that a function of a seed, and optionally of the step to begin with, yields one after another.

    Arguments:
        source: the function ``(seed) -> iterable of batches``.
        part: the name of the part in messages.
        skips: whether the source takes the step to begin with as its second argument.
        device: of the batches.
        readers: streams that are open at a time.
    """

    source: Callable[..., Iterable[Any]]
    part: str
    skips: bool = False
    how: str = "read as a stream"
    draws: bool = True
    device: torch.device = field(default=torch.device("cpu"))
    readers: int = READERS

    def __post_init__(self) -> None:
        self._readers: OrderedDict[int, Reader] = OrderedDict()

    @property
    def count(self) -> None:
        return None

    def steps_per_epoch(self, batch_size: int) -> float:
        return math.inf

    def rows(self, seed: int, start: int, stop: int, batch_size: int) -> Tensor:
        return torch.tensor([[seed, t] for t in range(start, stop)])

    def batch(self, rows: Tensor) -> Batch:
        if rows.dim() > 1:
            names = names_of(rows)
            self.readers = max(self.readers, len({seed for seed, _ in names}))
            return stacked([self._one(*name) for name in names])
        return self._one(int(rows[0]), int(rows[1]))

    def large(self, rows: Tensor) -> Batch:
        return concatenated([self._one(*name) for name in names_of(rows)])

    def chunks(self, size: int | None = None) -> Iterable[Batch]:
        return _StreamChunks(self)

    def known_by(self) -> list[Tensor]:
        return list(leaves(self.head(0)))

    def to(self, device: torch.device) -> "StreamSplit":
        return replace(self, device=device)

    def reader(self, seed: int) -> "Reader":
        """Returns a new reader of the stream of a seed."""
        return Reader(self.source, self.part, self.skips, self.device, seed)

    def _one(self, seed: int, t: int) -> Batch:
        if seed not in self._readers:
            while len(self._readers) >= self.readers:
                self._readers.popitem(last=False)
            self._readers[seed] = self.reader(seed)
        self._readers.move_to_end(seed)
        return own(self._readers[seed].at(t))


class Reader:
    """The stream of one seed, at its step; each epoch of one that ends has a seed of its own."""

    def __init__(
        self, source: Callable[..., Iterable[Any]], part: str, skips: bool, device: torch.device, seed: int
    ) -> None:
        self.source, self.part, self.skips, self.device, self.seed = source, part, skips, device, seed
        self.now: Batch = None
        self.stream: Iterator[Any] = iter(())
        self.states, self.next, self.epoch, self.fresh = global_states(), 0, 0, True
        self._open(0)

    def at(self, t: int) -> Batch:
        """Returns the batch of a step."""
        if t < self.next - 1 or (self.skips and t > self.next):
            self._begin(t if self.skips else 0)
        while self.next <= t:
            self.now = self._following(t)
        return self.now

    def read(self) -> Batch | None:
        """Returns the next batch of this epoch, None at its end."""
        before = global_states()
        restore_states(self.states)
        try:
            with user_errors(f"reading the {self.part} data, batch {self.next},"):
                batch = next(self.stream, None)
            self.states = global_states()
        finally:
            restore_states(before)
        if batch is not None:
            self.fresh, self.next = False, self.next + 1
            return moved(batch, self.device)
        if self.fresh and not self.next:
            raise TaskError(f"the {self.part} data yields no batch: yield at least one")
        return None

    def _following(self, t: int) -> Batch:
        while (batch := self.read()) is None:
            if self.fresh and self.epoch:
                raise TaskError(f"the {self.part} data yields no batch in epoch {self.epoch}: yield at least one")
            if self.fresh:  # its first epoch ends before this step
                self._begin(0)
                while self.next < t:
                    self._following(t)
            else:
                self.epoch += 1
                self._open(0)
        return batch

    def _begin(self, step: int) -> None:
        self.next, self.epoch = step, 0
        self._open(step)

    def _open(self, step: int) -> None:
        self.stream = iter(())  # so that what it holds is free again
        seed = derive_seed(self.seed, "stream", self.epoch) % 2**31
        with user_errors(f"the {self.part} data"), own_draws(seed):
            words = (seed, step) if self.skips else (seed,)
            self.stream = iter(self.source(*words))
            self.states = global_states()
        self.fresh = True


@dataclass(frozen=True)
class _StreamChunks:
    """The batches of a stream from its beginning to its end."""

    split: StreamSplit

    def __iter__(self) -> Iterator[Batch]:
        reader = self.split.reader(0)
        while (batch := reader.read()) is not None:
            yield batch
            if reader.next > ENDLESS:
                raise endless(self.split.part)


def endless(part: str) -> TaskError:
    """Returns what is to be raised where a part that is evaluated as a whole has no end."""
    return TaskError(
        f"the {part} data has no end after {ENDLESS:,} batches: let it end, since it is evaluated as a whole"
    )
