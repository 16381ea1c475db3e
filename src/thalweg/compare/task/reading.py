"""Examples that are read when they are needed: from a data set, example by example, or from a stream of batches.

What is read under a seed is a function of that seed, of the step and of the place in the batch. Each reading has its
own state of the global generators of torch, NumPy and Python, so that it neither depends on what else draws from them
nor changes it, and is the same with any number of workers.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, default_collate

from thalweg.compare.task.examples import CHUNK, Batch, Split, order_of, sample
from thalweg.compare.task.nested import concatenated, leaves, moved, own, stacked
from thalweg.compare.user_errors import TaskError, describe_error, user_errors
from thalweg.tensors import derive_seed
from thalweg.tensors.draws import global_states, own_draws, restore_states
from thalweg.tensors.private import write_count

READERS = 64  # streams that are open at a time
ENDLESS = 100_000  # batches of a validation or test stream after which it is taken to be endless
Check = Callable[[Any], str]
Entry = tuple[list[int], int]  # positions of the examples of a batch, and the seed of its draws


@dataclass(frozen=True)
class _Bad:
    """What cannot be read, and why."""

    reason: str


class _Batches(Dataset[Any]):
    """Batches of a data set, each read with draws of its own by one process."""

    def __init__(
        self, dataset: Dataset[Any], collate: Callable[[list[Any]], Any], check: Check | None, part: str
    ) -> None:
        self.dataset, self.collate, self.check, self.part = dataset, collate, check, part
        self.draws = own_draws if may_draw(dataset) or collate is not default_collate else nullcontext

    def __getitem__(self, entry: Entry) -> Any:
        positions, seed = entry
        examples: list[Any] = []
        with self.draws(seed):
            try:
                for index in positions:
                    examples.append(self.dataset[index])
            except Exception as error:
                return _Bad(f"example {positions[len(examples)]} of the {self.part} data {describe_error(error)}")
            if self.check is not None:
                for index, example in zip(positions, examples, strict=True):
                    if wrong := self.check(example):
                        return _Bad(f"example {index} of the {self.part} data {wrong}")
            try:
                return self.collate(examples)
            except Exception as error:
                some = ", ".join(map(str, positions[:3]))
                what = f"a batch of the {self.part} data (examples {some}, …) {describe_error(error)}"
                return _Bad(f"{what}; give collate_fn where examples differ in shape")


def may_draw(dataset: Any) -> bool:
    """Says whether reading an example may draw random numbers, which takes as long to set apart as a small batch."""
    return may_draw(dataset.dataset) if type(dataset) is Subset else type(dataset) is not TensorDataset


class _Plan:
    """The batches that a loader reads next; another iteration takes them up."""

    def __init__(self) -> None:
        self.entries: Sequence[Entry] = ()

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def _as_it_is(batch: Any) -> Any:
    return batch


@dataclass(eq=False)
class ReadSplit(Split):
    """Examples of a map-style data set, which are read anew each time.

    Arguments:
        dataset: of the examples.
        part: the name of the part in messages.
        batch_size: examples of a batch.
        collate: makes a batch of a list of examples.
        options: of the loader: workers, what they do first, and the like.
        shuffle: whether each epoch has an order of its own, or that of the data set.
        check: returns what is wrong with an example, empty where nothing is; None where nothing is checked.
        how: how the examples are read, in words.
        draws: whether reading an example draws random numbers.
        device: of the batches.
    """

    dataset: Dataset[Any]
    part: str
    batch_size: int
    collate: Callable[[list[Any]], Any] = default_collate
    options: Mapping[str, Any] = field(default_factory=dict)
    shuffle: bool = True
    check: Check | None = None
    how: str = "read anew for each batch"
    draws: bool = False
    device: torch.device = field(default=torch.device("cpu"))

    def __post_init__(self) -> None:
        self._plan = _Plan()
        self._loader: DataLoader[Any] | None = None
        self._read: Iterator[Batch] = iter(())
        self._ahead: deque[tuple[int, int]] = deque()
        self._most = 1  # batches of one step, which trials of several seeds take
        self._kept: OrderedDict[tuple[int, int], tuple[Batch, list[int]]] = OrderedDict()

    @property
    def count(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def steps_per_epoch(self, batch_size: int) -> float:
        return self.count / self.batch_size

    def rows(self, seed: int, start: int, stop: int, batch_size: int) -> Tensor:
        return torch.tensor([[seed, t] for t in range(start, stop)])

    def expect(self, rows: Tensor) -> None:
        named = _pairs(rows.reshape(-1, 2))
        self._most = len(set(_pairs(rows[:1].reshape(-1, 2)))) or 1
        self._ahead = deque(name for name in dict.fromkeys(named) if name not in self._kept)
        self._read = self._iterate([self._entry(*name) for name in self._ahead])

    def batch(self, rows: Tensor) -> Batch:
        if rows.dim() > 1:
            return stacked([self._one(*name) for name in _pairs(rows)])
        return self._one(int(rows[0]), int(rows[1]))

    def large(self, rows: Tensor) -> Batch:
        entries = [self._entry(*name) for name in _pairs(rows)]
        whole = [position for positions, _ in entries for position in positions]
        return moved(next(self._iterate([(whole, entries[0][1])])), self.device)

    def chunks(self, size: int | None = None) -> Iterable[Batch]:
        return _ReadChunks(self, min(size or self.batch_size, self.batch_size))  # no more than a step takes

    def known_by(self) -> list[Tensor]:
        batches = self._iterate([([i], derive_seed(0, "example", i)) for i in sample(self.count)])  # of any shapes
        return [tensor for batch in batches for tensor in leaves(batch)]

    def to(self, device: torch.device) -> "ReadSplit":
        given = (self.dataset, self.part, self.batch_size, self.collate, self.options, self.shuffle, self.check)
        return ReadSplit(*given, self.how, self.draws, device)

    def _one(self, seed: int, t: int) -> Batch:
        name = (seed, t)
        if name in self._kept and _writes(self._kept[name][0]) != self._kept[name][1]:
            del self._kept[name]  # one of the trials that share it has written into it
        if name not in self._kept:
            if not self._ahead or name not in self._ahead:
                self._ahead = deque([name])
                self._read = self._iterate([self._entry(seed, t)])
            while name not in self._kept:
                batch = moved(next(self._read), self.device)
                self._kept[self._ahead.popleft()] = batch, _writes(batch)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(name)
        return own(self._kept[name][0])

    def _entry(self, seed: int, t: int) -> Entry:
        own = derive_seed(seed, "batch", t)
        if self.shuffle:
            return order_of(seed, self.count, self.batch_size).rows(t, t + 1)[0].tolist(), own
        first = t % (self.count // self.batch_size) * self.batch_size
        return list(range(first, first + self.batch_size)), own

    def _iterate(self, entries: Sequence[Entry]) -> Iterator[Batch]:
        """Returns the batches of these entries, which the workers read ahead.

        It does not hold the split: workers end at once when the last one lets go of them, and late in a cycle.
        """
        if not entries:
            return iter(())
        self._plan.entries = entries
        with user_errors(f"reading the {self.part} data"):
            if self._loader is None:
                self._loader = DataLoader(
                    _Batches(self.dataset, self.collate, self.check, self.part),
                    batch_size=None,
                    sampler=self._plan,
                    collate_fn=_as_it_is,
                    persistent_workers=self.options.get("num_workers", 0) > 0,
                    generator=torch.Generator(),
                    **self.options,
                )
            return _taken(iter(self._loader), len(entries), self.part)


def _taken(read: Iterator[Batch], count: int, part: str) -> Iterator[Batch]:
    """Yields so many batches of a loader."""
    for _ in range(count):
        with user_errors(f"reading the {part} data"):
            batch = next(read)
        if isinstance(batch, _Bad):
            raise TaskError(f"{batch.reason}: correct or remove it")
        yield batch


@dataclass(frozen=True)
class _ReadChunks:
    split: ReadSplit
    size: int

    def __len__(self) -> int:
        return math.ceil(self.split.count / self.size)

    def __iter__(self) -> Iterator[Batch]:
        split, size = self.split, self.size
        for start in range(0, split.count, size * CHUNK):  # so that a long data set is not listed at once
            firsts = range(start, min(split.count, start + size * CHUNK), size)
            entries = [(list(range(i, min(split.count, i + size))), derive_seed(0, "batch", i, size)) for i in firsts]
            split._ahead.clear()  # the loader reads for one at a time
            for batch in split._iterate(entries):
                yield moved(batch, split.device)


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
        self._readers: OrderedDict[int, _Reader] = OrderedDict()

    @property
    def count(self) -> None:
        return None

    def steps_per_epoch(self, batch_size: int) -> float:
        return math.inf

    def rows(self, seed: int, start: int, stop: int, batch_size: int) -> Tensor:
        return torch.tensor([[seed, t] for t in range(start, stop)])

    def batch(self, rows: Tensor) -> Batch:
        if rows.dim() > 1:
            names = _pairs(rows)
            self.readers = max(self.readers, len({seed for seed, _ in names}))
            return stacked([self._one(*name) for name in names])
        return self._one(int(rows[0]), int(rows[1]))

    def large(self, rows: Tensor) -> Batch:
        return concatenated([self._one(*name) for name in _pairs(rows)])

    def chunks(self, size: int | None = None) -> Iterable[Batch]:
        return _StreamChunks(self)

    def known_by(self) -> list[Tensor]:
        return list(leaves(self.head(0)))

    def to(self, device: torch.device) -> "StreamSplit":
        return replace(self, device=device)

    def reader(self, seed: int) -> "_Reader":
        """Returns a new reader of the stream of a seed."""
        return _Reader(self.source, self.part, self.skips, self.device, seed)

    def _one(self, seed: int, t: int) -> Batch:
        if seed not in self._readers:
            while len(self._readers) >= self.readers:
                self._readers.popitem(last=False)
            self._readers[seed] = self.reader(seed)
        self._readers.move_to_end(seed)
        return own(self._readers[seed].at(t))


class _Reader:
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
                raise TaskError(
                    f"the {self.split.part} data has no end after {ENDLESS:,} batches: let it end, since it is "
                    "evaluated as a whole"
                )


def _writes(batch: Batch) -> list[int]:
    return [write_count(tensor) for tensor in leaves(batch)]


def _pairs(rows: Tensor) -> list[tuple[int, int]]:
    return [(int(seed), int(t)) for seed, t in rows.tolist()]
