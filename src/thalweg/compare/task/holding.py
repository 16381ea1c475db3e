"""Whether the examples of a data set can be held in memory, which a few of them tell that are read twice."""

import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from thalweg.compare.task.examples import HeldSplit, Split, sample
from thalweg.compare.task.nested import leaves, same
from thalweg.compare.task.reading import ReadSplit
from thalweg.compare.user_errors import TaskError, brief, user_errors
from thalweg.tensors.draws import States, global_states, own_draws

READING_SECONDS = 3.0  # that reading all examples into memory may take
READING_BYTES = 2**30  # that they may have there


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


class Reading:
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
            self.is_random = drawn or not all(map(same, some, again))
            if self.is_random:
                with own_draws(1):
                    if not all(map(same, again, [dataset[i] for i in places])):
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
                check_finite(split, self.task)
                return split
        check = partial(wrong_with, self.is_pairs)
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
        raise TaskError(no_pair(part, len(example)))
    if isinstance(example, dict) or not hasattr(example, "__getitem__"):
        raise TaskError(
            f"an example of the {part} data is a {type(example).__name__}: give pairs (input, target), or "
            "Task(step=...), a function (model, batch) -> loss"
        )


def no_pair(part: str, count: int) -> str:
    return (
        f"an example of the {part} data has {count} parts: give pairs (input, target), or Task(step=...), a function "
        "(model, batch) -> loss"
    )


def check_finite(split: HeldSplit, task: Given) -> None:
    if not task.is_pairs:
        return
    for what, tensor in (("inputs", split.input), ("targets", split.target)):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            rows = (~torch.isfinite(tensor.reshape(len(split), -1))).any(dim=1).nonzero()[:, 0]
            raise TaskError(
                f"the {split.part} {what} contain NaN or infinity in {len(rows)} examples (first: {int(rows[0])}): "
                "clean them"
            )


def wrong_with(is_pairs: bool, example: Any) -> str:
    """Returns what is wrong with an example, empty where nothing is."""
    if is_pairs:
        for tensor in leaves(example):
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                return "contains NaN or infinity"
    return ""


def _same_states(one: States, two: States) -> bool:
    numpys = all(bool((a == b).all()) if hasattr(a, "all") else a == b for a, b in zip(one[1], two[1], strict=True))
    return bool(torch.equal(one[0], two[0])) and numpys and one[2] == two[2]
