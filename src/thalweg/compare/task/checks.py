"""Every check of a task before anything is trained."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from thalweg.compare.arguments import SEED, check_whole
from thalweg.compare.task.examples import CHUNK, Examples, stacked
from thalweg.compare.task.judging import ignored_by, r2
from thalweg.compare.task.task import Task, build_model
from thalweg.compare.user_errors import TaskError, user_errors
from thalweg.tensors.error_texts import is_about_shapes
from thalweg.tensors.private import write_count


def examples(task: Task) -> Examples:
    """Returns the task's examples as tensors, without trying the model on them.

    Raises:
        TaskError: data that cannot be stacked, or are fewer than a batch.
    """
    check_whole("batch_size", task.batch_size, most=SEED[1], kind=TaskError)
    parts = {"train": task.train, "valid": task.valid, "test": task.test}
    data = Examples(*[stacked(dataset, name, task.resident) for name, dataset in parts.items()])
    if task.batch_size > len(data.train):
        raise TaskError(
            f"the batch ({task.batch_size}) is larger than the training data ({len(data.train)}): lower batch_size"
        )
    return data


def materialize(task: Task) -> Examples:
    """Returns the task's examples as tensors, after every check.

    Raises:
        TaskError: data, loss or model that cannot be trained, with the cause and the remedy.
    """
    check_whole("steps", task.steps, kind=TaskError)
    data = examples(task)
    for part, y in data.targets():
        if task.is_classification and not y.is_floating_point() and (labels := _counted(task, y).unique()).numel() < 2:
            found = f"a single class ({int(labels[0])})" if len(labels) else "no label but the ignored one"
            raise TaskError(f"the {part} data has {found}: nothing can be learned or evaluated")
        if part != "training" and task.metric in ("r2", r2) and bool((y == y[:1]).all()):
            raise TaskError(
                f"the {part} targets are all equal, and R² divides by their variance: choose another metric"
            )
    try_model(task, data)
    return data


def try_model(task: Task, data: Examples) -> None:
    """Trains nothing, but runs the model, the loss and the metric on a batch. Raises TaskError where one fails."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(task)
        trainable = [p for p in model.parameters() if p.requires_grad]
        if not trainable:
            raise TaskError("the model has no trainable parameter: set requires_grad on the parameters to train")
        first = data.train.first(task.batch_size).map(_copy)
        x, y = first.input, first.target
        with user_errors(f"the model, on a batch of shape {tuple(x.shape)},"), _unwritten("the model", x):
            output = model(x)
        if task.is_classification:
            _check_labels(task, output, data)
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
        if not isinstance(loss, Tensor) or loss.dim() != 0:
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise TaskError(f"the loss is not a scalar tensor ({shape}): return the mean over the batch")
        if not loss.requires_grad:
            raise TaskError("the loss does not depend on the parameters: do not detach or round its inputs")
        if not math.isfinite(loss.item()):
            raise TaskError(
                f"the loss of the untrained model is {loss.item()}: check the loss and the scale of the inputs"
            )
        with user_errors("the metric, on a batch,"), _unwritten("the metric", y):
            metric = task.score(output.detach(), y)
        if metric.numel() != 1:
            raise TaskError(f"the metric is not a scalar ({tuple(metric.shape)}): return one number for a batch")
        _try_validation(task, model.eval(), data)


def _try_validation(task: Task, model: nn.Module, data: Examples) -> None:
    """Raises TaskError where the metric of the untrained model is no number on validation data."""
    value = math.nan
    for count in (CHUNK, len(data.valid)):  # of all of them only where it is no number on some
        if not math.isfinite(value):
            some = data.valid.first(count).map(_copy)
            with user_errors("judging the untrained model"), _unwritten("the model or the metric", *some.held):
                value = float(some.evaluate(model, task.score))
    if not math.isfinite(value):
        raise TaskError(
            f"the metric of the untrained model is {value} on the validation data: choose a metric that is a number "
            "there"
        )


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
    return y[y != ignored_by(task.loss)]


def _check_labels(task: Task, output: Tensor, data: Examples) -> None:
    classes = output.shape[1] if output.dim() > 1 else 0
    for part, y in data.targets():
        if y.is_floating_point() or not classes:
            continue
        labels = _counted(task, y)
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise TaskError(
                f"the {part} labels range from {low} to {high}, but the model has {classes} outputs: "
                f"labels must lie in 0 … {classes - 1}"
            )
