"""Examples of a data set that are read when they are needed.

What is read under a seed is a function of that seed, of the step and of the place in the batch. Each reading has its
own state of the global generators of torch, NumPy and Python, so that it neither depends on what else draws from them
nor changes it, and is the same with any number of workers.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, default_collate

from thalweg.compare.task.examples import CHUNK, Batch, Split, names_of, order_of, sample
from thalweg.compare.task.nested import leaves, moved, own, stacked
from thalweg.compare.task.sampled import Sampled
from thalweg.compare.task.streaming import endless
from thalweg.compare.user_errors import TaskError, describe_error, user_errors
from thalweg.tensors import derive_seed
from thalweg.tensors.draws import own_draws
from thalweg.tensors.private import write_count

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
        sampled: the indices that a sampler of the user's gives, in place of an order of our own.
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
    sampled: Sampled | None = None

    def __post_init__(self) -> None:
        self._plan = _Plan()
        self._loader: DataLoader[Any] | None = None
        self._read: Iterator[Batch] = iter(())
        self._ahead: deque[tuple[int, int]] = deque()
        self._most = 1  # batches of one step, which trials of several seeds take
        self._kept: OrderedDict[tuple[int, int], tuple[Batch, list[int]]] = OrderedDict()

    @property
    def count(self) -> int | None:
        return self.length if self.sampled is None else self.sampled.count

    @property
    def length(self) -> int:
        """The number of examples of the data set."""
        return len(self.dataset)  # type: ignore[arg-type]

    def steps_per_epoch(self, batch_size: int) -> float:
        if self.sampled is not None:
            return math.inf if self.sampled.first is None else len(self.sampled.first)
        return self.length / self.batch_size

    def rows(self, seed: int, start: int, stop: int, batch_size: int) -> Tensor:
        return torch.tensor([[seed, t] for t in range(start, stop)])

    def expect(self, rows: Tensor) -> None:
        if self.sampled is not None:
            self.sampled.check_unchanged()
        named = names_of(rows.reshape(-1, 2))
        self._most = len(set(names_of(rows[:1].reshape(-1, 2)))) or 1
        self._ahead = deque(name for name in dict.fromkeys(named) if name not in self._kept)
        self._read = self._iterate([self._entry(*name) for name in self._ahead])

    def batch(self, rows: Tensor) -> Batch:
        if rows.dim() > 1:
            return stacked([self._one(*name) for name in names_of(rows)])
        return self._one(int(rows[0]), int(rows[1]))

    def large(self, rows: Tensor) -> Batch:
        entries = [self._entry(*name) for name in names_of(rows)]
        whole = [position for positions, _ in entries for position in positions]
        return moved(next(self._iterate([(whole, entries[0][1])])), self.device)

    def chunks(self, size: int | None = None) -> Iterable[Batch]:
        return _ReadChunks(self, min(size or self.batch_size, self.batch_size))  # no more than a step takes

    def known_by(self) -> list[Tensor]:
        batches = self._iterate([([i], derive_seed(0, "example", i)) for i in sample(self.length)])  # of any shapes
        return [tensor for batch in batches for tensor in leaves(batch)]

    def to(self, device: torch.device) -> "ReadSplit":
        given = (self.dataset, self.part, self.batch_size, self.collate, self.options, self.shuffle, self.check)
        return ReadSplit(*given, self.how, self.draws, device, self.sampled)

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
        if self.sampled is not None:
            return self.sampled.positions(seed, t), own
        if self.shuffle:
            return order_of(seed, self.length, self.batch_size).rows(t, t + 1)[0].tolist(), own
        first = t % (self.length // self.batch_size) * self.batch_size
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
        first = None if self.split.sampled is None else self.split.sampled.first
        return math.ceil(self.split.length / self.size) if first is None else len(first)

    def __iter__(self) -> Iterator[Batch]:
        split = self.split
        for entries in self._in_order() if split.sampled is None else self._sampled(split.sampled):
            split._ahead.clear()  # the loader reads for one at a time
            for batch in split._iterate(entries):
                yield moved(batch, split.device)

    def _in_order(self) -> Iterator[list[Entry]]:
        count, size = self.split.length, self.size
        for start in range(0, count, size * CHUNK):  # so that a long data set is not listed at once
            firsts = range(start, min(count, start + size * CHUNK), size)
            yield [(list(range(i, min(count, i + size))), derive_seed(0, "batch", i, size)) for i in firsts]

    def _sampled(self, sampled: Sampled) -> Iterator[list[Entry]]:
        """Yields an epoch, the same each time."""
        batches = sampled.first
        if batches is None:
            raise endless(self.split.part)
        for start in range(0, len(batches), CHUNK):
            chosen = enumerate(batches[start : start + CHUNK], start)
            yield [(positions, derive_seed(0, "batch", t)) for t, positions in chosen]


def _writes(batch: Batch) -> list[int]:
    return [write_count(tensor) for tensor in leaves(batch)]
