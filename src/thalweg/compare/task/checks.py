"""Every check of a task before anything is trained."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.compare.arguments import SEED, check_whole
from thalweg.compare.task.building import build_model
from thalweg.compare.task.evaluation import evaluated, metric_in
from thalweg.compare.task.examples import CHUNK, Batch, Examples, HeldSplit, Split, input_of, target_of
from thalweg.compare.task.judging import ignored_by, r2
from thalweg.compare.task.nested import form, leaves, mapped
from thalweg.compare.task.task import Task
from thalweg.compare.user_errors import TaskError, user_errors
from thalweg.tensors.draws import own_draws
from thalweg.tensors.error_texts import is_about_shapes
from thalweg.tensors.private import write_count

SOME = 2  # batches by which a task's own evaluation is tried


def examples(task: Task) -> Examples:
    """Returns the task's examples, without trying the model on them.

    Raises:
        TaskError: data that cannot be read, or are fewer than a batch.
    """
    check_whole("batch_size", task.batch_size, most=SEED[1], kind=TaskError)
    data = task.examples()
    count = data.train.count
    if count is not None and task.batch_size > count:
        raise TaskError(f"the batch ({task.batch_size}) is larger than the training data ({count}): lower batch_size")
    return data


def materialize(task: Task) -> Examples:
    """Returns the task's examples, after every check.

    Raises:
        TaskError: data, loss or model that cannot be trained, with the cause and the remedy.
    """
    check_whole("steps", task.steps, kind=TaskError)
    data = examples(task)
    for part, split in _in_memory(task, data):
        y = split.target
        if task.is_classification and not y.is_floating_point() and (labels := _counted(task, y).unique()).numel() < 2:
            found = f"a single class ({int(labels[0])})" if len(labels) else "no label but the ignored one"
            raise TaskError(f"the {part} data has {found}: nothing can be learned or evaluated")
        if part != "training" and task.metric in ("r2", r2) and bool((y == y[:1]).all()):
            raise TaskError(
                f"the {part} targets are all equal, and R² divides by their variance: choose another metric"
            )
    try_model(task, data)
    return data


def with_metric(task: Task, data: Examples) -> Task:
    """Returns the task with the name of the metric that its own evaluation gives first.

    Raises:
        TaskError: whether a larger one is better is not known.
    """
    if task.evaluate is None:
        return task
    with own_draws(0):
        values = evaluated(task, build_model(task).eval(), _some(data.valid))
    name = metric_in(task, values)
    named = replace(task, metric=name)
    named.check_direction()
    low, high = named.metric_range
    if not low <= values[name] <= high:
        raise TaskError(
            f"{name} of the untrained model is {values[name]:g}, outside of {low:g} to {high:g}: return it as a share, "
            "or by another name with higher_is_better"
        )
    return named


def try_model(task: Task, data: Examples) -> None:
    """Trains nothing, but runs the model, the loss and the metric on a batch. Raises TaskError where one fails."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(task)
        if not any(p.requires_grad for p in model.parameters()):
            raise TaskError("the model has no trainable parameter: set requires_grad on the parameters to train")
        batch = mapped(_copy, data.train.head(task.batch_size))
        if task.step is not None:
            _try_step(task, model, batch, data)
            return
        loss, output = _tried_loss(task, model, batch, data)
        _check_loss(loss)
        with user_errors("the metric, on a batch,"), _unwritten("the metric", target_of(batch)):
            metric = task.score(output.detach(), target_of(batch))
        if metric.numel() != 1:
            raise TaskError(f"the metric is not a scalar ({tuple(metric.shape)}): return one number for a batch")
        _try_validation(task, model.eval(), data)


def _tried_loss(task: Task, model: nn.Module, batch: Batch, data: Examples) -> tuple[Any, Tensor]:
    """Returns the loss and the output of a batch of pairs."""
    x, y = input_of(batch), target_of(batch)
    with (
        user_errors(f"the model, on a batch of shape {tuple(x.shape)},"),
        _unwritten("the model", x),
        task.autocast(x),
    ):
        output = model(x)
    if task.is_classification:
        _check_labels(task, output, batch, data)
    shapes = f"output {tuple(output.shape)} and target {tuple(y.shape)}"
    with (
        user_errors(f"the loss, on {shapes},"),
        _unwritten("the loss", output, y),
        warnings.catch_warnings(record=True) as warned,
    ):
        warnings.simplefilter("always")
        loss = task.training_loss(model, output, y)
    if any(is_about_shapes(one.message) for one in warned):
        raise TaskError(
            f"the loss compares every output with every target, {shapes}: give the target the shape of the output"
        )
    return loss, output


def _check_loss(loss: Any, what: str = "the loss") -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise TaskError(f"{what} is not a scalar tensor ({shape}): return the mean over the batch")
    if not loss.requires_grad:
        raise TaskError(f"{what} does not depend on the parameters: do not detach or round its inputs")
    if not math.isfinite(loss.item()):
        raise TaskError(f"{what} of the untrained model is {loss.item()}: check the loss and the scale of the inputs")


def _try_step(task: Task, model: nn.Module, batch: Batch, data: Examples) -> None:
    """Tries a task's own step on a batch, and its evaluation on a few, twice."""
    with (
        user_errors(f"the task's step, on a batch of {form(batch)},"),
        _unwritten("the task's step", *leaves(batch)),
    ):
        loss = task.evaluation_loss(model, batch)
    _check_loss(loss, "the loss that the task's step returns")
    with user_errors("the gradient of the loss that the task's step returns", "return a loss to be differentiated"):
        loss.backward()
    model.eval()
    found, before = [], _state_of(model)
    for _ in range(2):
        with own_draws(0):
            found.append(evaluated(task, model, _some(data.valid)))
    for name, (needs, tensor) in _state_of(model).items():
        if needs != before[name][0] or not torch.allclose(tensor, before[name][1], 0, 0, equal_nan=True):
            raise TaskError(
                f"the task's evaluate changes the model ({name}), which goes on training: leave it in eval mode, and "
                "change a copy.deepcopy of it"
            )
    name = metric_in(task, found[0])
    if not math.isfinite(found[0][name]):
        raise TaskError(
            f"the metric {name!r} of the untrained model is {found[0][name]} on the validation data: choose a metric "
            "that is a number there"
        )
    if found[0] != found[1]:
        raise TaskError(
            "the task's evaluate returns something else each time for the same model and data: let it depend on them "
            "alone"
        )


def _state_of(model: nn.Module) -> dict[str, tuple[bool, Tensor]]:
    """Returns copies of parameters and buffers by name, each beside whether it is trained."""
    named = (*model.named_parameters(), *model.named_buffers())
    return {name: (tensor.requires_grad, _copy(tensor)) for name, tensor in named}


def _some(split: Split) -> list[Batch]:
    """Returns the first few batches of a part of the data."""
    return [batch for _, batch in zip(range(SOME), split.chunks(), strict=False)]


def _try_validation(task: Task, model: nn.Module, data: Examples) -> None:
    """Raises TaskError where the metric of the untrained model is no number on validation data."""
    value = math.nan
    for count in (CHUNK, data.valid.count):  # of all of them only where it is no number on some
        if not math.isfinite(value) and count is not None:
            some = _first(data.valid, count)
            with user_errors("judging the untrained model"), _unwritten("the model or the metric", *some.tensors()):
                value = float(some.evaluate(model, task.score))
    if not math.isfinite(value):
        raise TaskError(
            f"the metric of the untrained model is {value} on the validation data: choose a metric that is a number "
            "there"
        )


def _first(split: Split, count: int) -> HeldSplit:
    """Returns a copy of the first examples in memory; of those that are read, of a batch or two."""
    if isinstance(split, HeldSplit):
        return split.first(count).map(_copy)
    x, y = (torch.cat([part(batch) for batch in _some(split)]) for part in (input_of, target_of))
    return HeldSplit((x, y), split.part)


def _in_memory(task: Task, data: Examples) -> list[tuple[str, HeldSplit]]:
    """Returns the parts of pairs that are in memory, beside their names in messages."""
    named = zip(("training", "validation", "test"), data.parts, strict=True)
    return [(name, split) for name, split in named if task.step is None and isinstance(split, HeldSplit)]


def _copy(tensor: Tensor) -> Tensor:
    """Returns a copy, so that what is given stays as it is."""
    return tensor.detach().clone()


@contextmanager
def _unwritten(what: str, *given: object) -> Iterator[None]:
    """Runs its body; raises TaskError where it writes into what it is given, which is not for it alone."""
    before = [(tensor, write_count(tensor), tensor.detach().clone()) for tensor in given if isinstance(tensor, Tensor)]
    yield
    for tensor, version, values in before:
        if write_count(tensor) != version or not torch.allclose(tensor, values, 0, 0, equal_nan=True):
            raise TaskError(
                f"{what} modifies its input in place: write x = x / 255 instead of x /= 255, use nn.ReLU() instead "
                "of nn.ReLU(inplace=True), or clone() the input first"
            )


def _counted(task: Task, y: Tensor) -> Tensor:
    """Returns the labels that the loss does not leave out."""
    assert task.loss is not None
    return y[y != ignored_by(task.loss)]


def _check_labels(task: Task, output: Tensor, batch: Batch, data: Examples) -> None:
    classes = output.shape[1] if output.dim() > 1 else 0
    for part, y in [("training", target_of(batch)), *((name, split.target) for name, split in _in_memory(task, data))]:
        if y.is_floating_point() or not classes:
            continue
        labels = _counted(task, y)
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise TaskError(
                f"the {part} labels range from {low} to {high}, but the model has {classes} outputs: "
                f"labels must lie in 0 … {classes - 1}"
            )
