"""The evaluation of a task that has a step of its own: named numbers of a whole part of the data."""

import numbers
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from thalweg.compare.task.examples import Batch
from thalweg.compare.task.nested import size_of
from thalweg.compare.task.task import Task
from thalweg.compare.user_errors import TaskError, user_errors
from thalweg.tensors.private import hook_tables

LOSS = "loss"


def evaluated(task: Task, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
    """Returns what the task's own evaluation gives by name; by default the mean over examples of the step's loss.

    Raises:
        TaskError: it raises, or gives no numbers.
    """
    if task.evaluate is None:
        return {LOSS: mean_loss(task, model, batches)}
    place = user_errors("the task's evaluate")
    with place, without_new_hooks(model), torch.no_grad(), task.autocast(first_parameter(model)):
        found = task.evaluate(model, batches)
    values = dict(found) if isinstance(found, Mapping) else {"metric": found}
    for name, value in values.items():
        if not isinstance(value, (numbers.Real, Tensor)) or (isinstance(value, Tensor) and value.numel() != 1):
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise TaskError(f"the task's evaluate gives {name!r} as a {shape}: return a number for each name")
    if not values:
        raise TaskError("the task's evaluate returns nothing: return a number, or {name: number}")
    return {str(name): float(value) for name, value in values.items()}


@contextmanager
def without_new_hooks(model: nn.Module) -> Iterator[None]:
    """Runs its body, and removes the hooks that it has left on the model, which would become more with each run."""
    tables = [(table, set(table)) for module in model.modules() for table in hook_tables(module)]
    try:
        yield
    finally:
        for table, before in tables:
            for key in [key for key in table if key not in before]:
                del table[key]


def mean_loss(task: Task, model: nn.Module, batches: Iterable[Batch]) -> float:
    """Returns the mean over all examples of the loss of the task's step."""
    with user_errors("the task's step, in evaluation,"):
        try:
            with torch.no_grad():
                return _mean_loss(task, model, batches)
        except RuntimeError as error:
            if "does not require grad" not in str(error):
                raise
        with torch.enable_grad():  # the step differentiates: by its inputs, say
            return _mean_loss(task, model, batches)


def _mean_loss(task: Task, model: nn.Module, batches: Iterable[Batch]) -> float:
    total, count = 0.0, 0
    for batch in batches:
        size = max(1, size_of(batch))
        total, count = total + float(task.evaluation_loss(model, batch).detach()) * size, count + size
    return total / count


def first_parameter(model: nn.Module) -> Tensor | None:
    """Returns a parameter of the model, by whose device its batches are known."""
    return next(model.parameters(), None)


def metric_in(task: Task, values: Mapping[str, float]) -> str:
    """Returns the name of the metric among what the evaluation gives: that which the task names, else the first.

    Raises:
        TaskError: it is not among them.
    """
    name = task.metric if isinstance(task.metric, str) else next(iter(values))
    if name not in values:
        raise TaskError(f"the task's evaluate gives {', '.join(values)}, and no {name!r}: name one of them as metric")
    return name
