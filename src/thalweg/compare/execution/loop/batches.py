"""The batches that a training loop of the user's own asks for."""

from collections.abc import Iterable
from typing import Any

from torch.utils.data import DataLoader

from thalweg.compare.task.data import of_loader, split_of
from thalweg.compare.task.examples import Split
from thalweg.compare.task.holding import Given
from thalweg.compare.user_errors import TaskError

GIVEN = Given(0, None, False, False)


def likeness(data: Any) -> tuple[Any, ...]:
    """Returns what data that are made anew for each epoch have in common."""
    source: Any = data.dataset if isinstance(data, DataLoader) else data
    try:
        count = len(source)
    except Exception:  # there need be none
        count = None
    return type(source), count, getattr(data, "batch_size", None), getattr(data, "__code__", None)


def split_for(data: Any) -> Split:
    """Returns what a loop gives to ``run.batches`` as examples, which are read anew each time.

    Raises:
        TaskError: it is nothing of the kind.
    """
    if isinstance(data, DataLoader):
        return of_loader(data)
    if isinstance(data, Iterable) and not hasattr(data, "__next__"):
        return split_of(lambda seed: data, "training", GIVEN)
    if callable(data):
        return split_of(data, "training", GIVEN)
    raise TaskError(
        f"the loop calls run.batches with a {type(data).__name__}: give a DataLoader, an iterable of batches that can "
        "be iterated over again, or a function (seed) -> iterable of batches"
    )
