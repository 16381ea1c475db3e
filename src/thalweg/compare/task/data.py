"""From what the user gives as data to a :class:`Split`: in memory where that is the same thing, else read."""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from thalweg.compare.task.examples import HeldSplit, Split
from thalweg.compare.task.holding import Given, Reading, check_finite, no_pair, wrong_with
from thalweg.compare.task.reading import ReadSplit
from thalweg.compare.task.sampled import Sampled, Undrawable
from thalweg.compare.task.streaming import READERS, StreamSplit
from thalweg.compare.user_errors import TaskError, user_errors

PROCESSES = 8  # workers of streams that are kept open


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
    if type(_sampler_of(loader)).__module__.startswith("torch."):  # another may follow what the loop does
        return _of_sampler(loader, part, Given(0, None, False, False)) or _stream_of(loader, part)
    return _stream_of(loader, part)


def _is_standard(loader: DataLoader[Any]) -> bool:
    """Says whether a loader reads a map-style data set in order or in a random one, without replacement."""
    made = type(loader.batch_sampler) is BatchSampler and loader.batch_sampler.sampler is loader.sampler
    known = made and type(loader.sampler) in (RandomSampler, SequentialSampler)  # not one of a batch sampler's own
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
    return _of_sampler(loader, part, task) or _stream_of(loader, part)


def _of_sampler(loader: DataLoader[Any], part: str, task: Given) -> Split | None:
    """Returns examples whose indices are drawn by themselves; None where they are no indices of single examples."""
    dataset = loader.dataset
    if isinstance(dataset, IterableDataset) or loader.batch_sampler is None or not hasattr(dataset, "__len__"):
        return None
    try:
        sampled = Sampled(loader, part, _streamed)
    except Undrawable as reason:
        return _stream_of(loader, part, f", since {reason}")
    reading = Reading(dataset, part, task)
    how = f"read anew for each batch, by the indices of its {type(_sampler_of(loader)).__name__}"
    size = loader.batch_size or (len(sampled.first[0]) if sampled.first else task.batch_size)
    check, options = partial(wrong_with, reading.is_pairs), loader_options(loader)
    split = ReadSplit(dataset, part, size, loader.collate_fn, options, True, check, how, reading.is_random)
    return replace(split, sampled=sampled)


def _sampler_of(loader: DataLoader[Any]) -> Any:
    """Returns the sampler that the user has written."""
    own = loader.batch_sampler
    return own.sampler if type(own) is BatchSampler else own


def _stream_of(loader: DataLoader[Any], part: str, why: str = "") -> StreamSplit:
    readers = READERS if not loader.num_workers else max(1, PROCESSES // loader.num_workers)
    return StreamSplit(partial(_streamed, loader), part, readers=readers, how=f"read as a stream{why}")


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
            raise TaskError(no_pair(part, len(dataset.tensors)))
        held = HeldSplit(tuple(dataset.tensors) if task.is_pairs else list(dataset.tensors), part)
        check_finite(held, task)
        if shuffle:
            return held
    reading = Reading(dataset, part, task)
    check, draws = partial(wrong_with, reading.is_pairs), reading.is_random
    how = "read anew for each batch" + (", since examples differ each time that they are read" if draws else "")
    collate = task.collate or default_collate
    split = ReadSplit(dataset, part, task.batch_size, collate, options or {}, shuffle, check, how, draws)
    if shuffle and (task.resident or reading.can_be_held):
        return reading.held() or split
    return split
