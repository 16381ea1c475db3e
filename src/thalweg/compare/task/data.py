"""From what the user gives as data to a :class:`Split`: in memory where that is the same thing, else read."""

import copy
import inspect
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from thalweg.compare.task.examples import HeldSplit, Split, sample
from thalweg.compare.task.nested import leaves
from thalweg.compare.task.reading import READERS, ReadSplit, StreamSplit
from thalweg.compare.user_errors import TaskError, brief, user_errors
from thalweg.tensors.draws import States, global_states, own_draws

READING_SECONDS = 3.0  # that reading all examples into memory may take
READING_BYTES = 2**30  # that they may have there
PROCESSES = 8  # workers of streams that are kept open


class Given(NamedTuple):
    """What a task says of its data.

    Arguments:
        batch_size: examples of a batch.
        collate: makes a batch of examples; None for torch's.
        resident: whether examples are read once, though they may differ each time.
        is_pairs: whether examples are pairs (input, target), which the task's loss takes.
    """

    batch_size: int
    collate: Callable[[list[Any]], Any] | None
    resident: bool
    is_pairs: bool


def split_of(given: Any, part: str, task: Given) -> Split:
    """Returns the examples that the user gives: a data set, a data loader, a stream, or a function of a seed.

    Raises:
        TaskError: they cannot be read, are not finite, or there are none.
    """
    if isinstance(given, DataLoader):
        return _of_loader(given, part, task)
    if isinstance(given, IterableDataset):
        stream = partial(DataLoader, given, task.batch_size, collate_fn=task.collate)
        return StreamSplit(lambda seed: _epochs(given, stream, seed), part)
    if hasattr(given, "__getitem__") and hasattr(given, "__len__"):
        return _of_dataset(given, part, task)
    if callable(given):
        return StreamSplit(given, part, _takes_step(given))
    raise TaskError(
        f"the {part} data is a {type(given).__name__}: give a data set with a length, a DataLoader, an "
        "IterableDataset, or a function (seed) -> iterable of batches"
    )


def _takes_step(source: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(source).parameters.values()
    except (TypeError, ValueError):
        return False
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters) > 1


def _epochs(dataset: Any, loader: Callable[[], Any], seed: int) -> Any:
    """Returns the batches of a stream; it is told a number for the epoch where it takes one."""
    if callable(change := getattr(dataset, "set_epoch", None)):
        change(seed)
    return loader()


def of_loader(loader: DataLoader[Any], part: str = "training") -> Split:
    """Returns the examples of a loader, whatever they are, which are read anew each time."""
    if _is_standard(loader):
        shuffle, collate = type(loader.sampler) is RandomSampler, loader.collate_fn
        assert loader.batch_size is not None
        if (count := len(loader.dataset)) < loader.batch_size:  # type: ignore[arg-type]
            raise TaskError(f"the batch ({loader.batch_size}) is larger than the {part} data ({count}): lower it")
        return ReadSplit(loader.dataset, part, loader.batch_size, collate, loader_options(loader), shuffle)
    return _stream_of(loader, part)


def _is_standard(loader: DataLoader[Any]) -> bool:
    """Says whether a loader reads a map-style data set in order or in a random one, without replacement."""
    known = type(loader.batch_sampler) is BatchSampler and type(loader.sampler) in (RandomSampler, SequentialSampler)
    return known and not getattr(loader.sampler, "replacement", False)


def _of_loader(loader: DataLoader[Any], part: str, task: Given) -> Split:
    if _is_standard(loader):
        collate = None if loader.collate_fn is default_collate else loader.collate_fn
        own = task._replace(batch_size=loader.batch_size or task.batch_size, collate=collate)
        shuffle = type(loader.sampler) is RandomSampler or part != "train"
        split = _of_dataset(loader.dataset, part, own, loader_options(loader), shuffle)
        # An evaluation of the user's gets the loader's batches: their size may be all that memory holds.
        if isinstance(split, HeldSplit) and not task.is_pairs:
            return replace(split, batch_size=own.batch_size)
        return split
    return _stream_of(loader, part)


def _stream_of(loader: DataLoader[Any], part: str) -> StreamSplit:
    readers = READERS if not loader.num_workers else max(1, PROCESSES // loader.num_workers)
    return StreamSplit(partial(_streamed, loader), part, readers=readers)


def _streamed(loader: DataLoader[Any], seed: int) -> Iterator[Any]:
    """Yields the batches of a loader, in an order that follows from the seed, whatever other streams of it are read.

    Each stream has workers of its own, since those that persist go on drawing where another stream left them. What
    samplers draw from a generator of their own is drawn from its state in this stream.
    """
    own = copy.copy(loader)
    vars(own).update(_iterator=None, persistent_workers=False)
    generators = []
    for holder in (own, own.sampler, getattr(own.batch_sampler, "sampler", None), own.batch_sampler):
        if isinstance(made := getattr(holder, "generator", None), torch.Generator):
            generators.append(made.manual_seed(seed))
        if callable(change := getattr(holder, "set_epoch", None)):
            change(seed)
    read, states = iter(own), [made.get_state() for made in generators]
    while True:
        for made, state in zip(generators, states, strict=True):
            made.set_state(state)
        try:
            batch = next(read)
        except StopIteration:
            return
        states = [made.get_state() for made in generators]
        yield batch


def loader_options(loader: DataLoader[Any]) -> dict[str, Any]:
    """Returns the settings of a loader that say how it reads, not what."""
    names = ["num_workers", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context", "prefetch_factor"]
    return {name: getattr(loader, name) for name in names}


def _of_dataset(
    dataset: Any, part: str, task: Given, options: Mapping[str, Any] | None = None, shuffle: bool = True
) -> Split:
    with user_errors(f"the length of the {part} data"):
        count = len(dataset)
    if count == 0:
        raise TaskError(f"the {part} data is empty: give at least one example")
    is_plain = isinstance(dataset, TensorDataset) and type(dataset).__getitem__ is TensorDataset.__getitem__
    if is_plain and task.collate is None:
        if task.is_pairs and len(dataset.tensors) != 2:
            raise TaskError(_no_pair(part, len(dataset.tensors)))
        held = HeldSplit(tuple(dataset.tensors) if task.is_pairs else list(dataset.tensors), part)
        _check_finite(held, task)
        if shuffle:
            return held
    reading = _Reading(dataset, part, task)
    check, draws = partial(_wrong, reading.is_pairs), reading.is_random
    how = "read anew for each batch" + (", since examples differ each time that they are read" if draws else "")
    collate = task.collate or default_collate
    split = ReadSplit(dataset, part, task.batch_size, collate, options or {}, shuffle, check, how, draws)
    if shuffle and (task.resident or reading.can_be_held):
        return reading.held() or split
    return split


class _Reading:
    """A map-style data set, of which a few examples are read twice."""

    def __init__(self, dataset: Dataset[Any], part: str, task: Given) -> None:
        self.dataset, self.part, self.task = dataset, part, task
        self.count, self.is_pairs = len(dataset), task.is_pairs  # type: ignore[arg-type]
        places = sample(self.count)
        with user_errors(f"reading the {part} data"):
            with own_draws(0):
                began = time.perf_counter()
                some = [dataset[i] for i in places]
                self.seconds = (time.perf_counter() - began) * self.count / len(places)
            with own_draws(1):
                before = global_states()
                again = [dataset[i] for i in places]
                drawn = not _same_states(before, global_states())
            self.is_random = drawn or not all(map(_same, some, again))
            if self.is_random:
                with own_draws(1):
                    if not all(map(_same, again, [dataset[i] for i in places])):
                        warnings.warn(
                            f"examples of the {part} data differ though the generators of torch, NumPy and Python are "
                            "seeded, so that trials do not share them and nothing is repeatable: draw from these "
                            "generators",
                            stacklevel=2,
                        )
        bytes_ = sum(t.numel() * t.element_size() for example in some for t in leaves(example))
        self.bytes = bytes_ * self.count / len(places)
        if self.is_pairs:
            _check_pair(some[0], part)

    @property
    def can_be_held(self) -> bool:
        """Whether reading once is the same thing as reading each time, and short."""
        return not self.is_random and self.seconds < READING_SECONDS and self.bytes < READING_BYTES

    def held(self) -> Split | None:
        """Returns all examples, read once; None where they do not form one batch of tensors."""
        with user_errors(f"reading the {self.part} data"), own_draws(0):
            examples = [self.dataset[i] for i in range(self.count)]
        if self.task.collate is None:
            try:
                whole = _pairs(examples) if self.is_pairs else default_collate(examples)
            except Exception as error:
                remedy = "give collate_fn, or convert and pad them in the dataset"
                kind = "(input, target) pairs of " if self.is_pairs else ""
                raise TaskError(
                    f"the {self.part} data is not a set of {kind}tensors of one shape ({brief(error)}): {remedy}"
                ) from error
            if _is_tensors(whole, self.count):
                split = HeldSplit(whole, self.part, is_read=True)
                _check_finite(split, self.task)
                return split
        check = partial(_wrong, self.is_pairs)
        return ReadSplit(
            _Listed(examples),
            self.part,
            self.task.batch_size,
            self.task.collate or default_collate,
            check=check,
            how="",
        )


class _Listed(Dataset[Any]):
    """Examples that were read."""

    def __init__(self, examples: Sequence[Any]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Any:
        return self.examples[index]


def _pairs(examples: Sequence[Any]) -> tuple[Tensor, Tensor]:
    return (
        torch.stack([torch.as_tensor(pair[0]) for pair in examples]),
        torch.stack([torch.as_tensor(pair[1]) for pair in examples]),
    )


def _is_tensors(batch: Any, count: int) -> bool:
    """Says whether a batch is nothing but tensors, in tuples, lists and dictionaries, with so many examples."""
    if isinstance(batch, Tensor):
        return batch.dim() > 0 and len(batch) == count
    values = batch.values() if type(batch) is dict else batch if type(batch) in (list, tuple) else ()
    return bool(values) and all(_is_tensors(value, count) for value in values)


def _check_pair(example: Any, part: str) -> None:
    if isinstance(example, (tuple, list)) and len(example) != 2:
        raise TaskError(_no_pair(part, len(example)))
    if isinstance(example, dict) or not hasattr(example, "__getitem__"):
        raise TaskError(
            f"an example of the {part} data is a {type(example).__name__}: give pairs (input, target), or "
            "Task(step=...), a function (model, batch) -> loss"
        )


def _no_pair(part: str, count: int) -> str:
    return (
        f"an example of the {part} data has {count} parts: give pairs (input, target), or Task(step=...), a function "
        "(model, batch) -> loss"
    )


def _check_finite(split: HeldSplit, task: Given) -> None:
    if not task.is_pairs:
        return
    for what, tensor in (("inputs", split.input), ("targets", split.target)):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            rows = (~torch.isfinite(tensor.reshape(len(split), -1))).any(dim=1).nonzero()[:, 0]
            raise TaskError(
                f"the {split.part} {what} contain NaN or infinity in {len(rows)} examples (first: {int(rows[0])}): "
                "clean them"
            )


def _wrong(is_pairs: bool, example: Any) -> str:
    """Returns what is wrong with an example, empty where nothing is."""
    if is_pairs:
        for tensor in leaves(example):
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                return "contains NaN or infinity"
    return ""


def _same_states(one: States, two: States) -> bool:
    numpys = all(bool((a == b).all()) if hasattr(a, "all") else a == b for a, b in zip(one[1], two[1], strict=True))
    return bool(torch.equal(one[0], two[0])) and numpys and one[2] == two[2]


def _same(one: Any, two: Any) -> bool:
    """Says whether two readings of an example are equal, as far as they can be compared."""
    if isinstance(one, (tuple, list)) and isinstance(two, (tuple, list)):
        return len(one) == len(two) and all(map(_same, one, two))
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_same(one[key], two[key]) for key in one)
    try:
        a, b = torch.as_tensor(one), torch.as_tensor(two)
    except Exception:  # what is no tensor is refused by name when it is stacked
        return True
    return a.shape == b.shape and torch.allclose(a, b, 0, 0, equal_nan=True)
