"""The examples of a task, and every check before anything is trained."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from thalweg.compare.ranges import SEED, check_whole
from thalweg.compare.task.judging import ignored_by, r2
from thalweg.compare.task.task import Data, Task, build_model
from thalweg.compare.user_errors import TaskError, brief, user_errors
from thalweg.tensors.private import write_count

CHUNK = 1024  # rows evaluated at once


def examples(task: Task) -> Data:
    """Returns the task's examples as tensors, without trying the model on them.

    Raises:
        TaskError: data that cannot be stacked, or are fewer than a batch.
    """
    check_whole("batch_size", task.batch_size, most=SEED[1], kind=TaskError)
    data = Data(*(t for part in ("train", "valid", "test") for t in _stack(getattr(task, part), part)))
    if task.batch_size > len(data.train_x):
        raise TaskError(
            f"the batch ({task.batch_size}) is larger than the training data ({len(data.train_x)}): lower batch_size"
        )
    return data


def materialize(task: Task) -> Data:
    """Returns the task's examples as tensors, after every check.

    Raises:
        TaskError: data, loss or model that cannot be trained, with the cause and the remedy.
    """
    check_whole("steps", task.steps, kind=TaskError)
    data = examples(task)
    for part, y in (("training", data.train_y), ("validation", data.valid_y), ("test", data.test_y)):
        if task.is_classification and not y.is_floating_point() and (labels := _counted(task, y).unique()).numel() < 2:
            found = f"a single class ({int(labels[0])})" if len(labels) else "no label but the ignored one"
            raise TaskError(f"the {part} data has {found}: nothing can be learned or judged")
        if part != "training" and task.metric in ("r2", r2) and bool((y == y[:1]).all()):
            raise TaskError(f"the {part} targets are all alike, and R² divides by their variance: give another metric")
    try_model(task, data)
    return data


def _stack(dataset: Dataset[Any], part: str) -> tuple[Tensor, Tensor]:
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise TaskError(f"the {part} data has no length: give a map-style dataset (list(iterable) makes one)")
    with user_errors(f"the length of the {part} data"):
        count = len(dataset)
    if count == 0:
        raise TaskError(f"the {part} data is empty: give at least one example")
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        x, y = dataset.tensors
    else:
        with user_errors(f"reading the {part} data"):
            pairs = [dataset[i] for i in range(count)]
        try:
            x = torch.stack([torch.as_tensor(pair[0]) for pair in pairs])
            y = torch.stack([torch.as_tensor(pair[1]) for pair in pairs])
        except Exception as error:
            raise TaskError(
                f"the {part} data is no set of (input, target) pairs of tensors of one shape ({brief(error)}): "
                "convert and pad them in the dataset"
            ) from error
    for what, tensor in (("inputs", x), ("targets", y)):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            rows = (~torch.isfinite(tensor.reshape(count, -1))).any(dim=1).nonzero()[:, 0]
            raise TaskError(
                f"the {part} {what} hold NaN or infinity in {len(rows)} examples (first: {int(rows[0])}): clean them"
            )
    return x, y


def try_model(task: Task, data: Data) -> None:
    """Trains nothing, but runs the model, the loss and the metric on a batch. Raises TaskError where one fails."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(task)
        trainable = [p for p in model.parameters() if p.requires_grad]
        if not trainable:
            raise TaskError("the model has no trainable parameter: set requires_grad on what is to be trained")
        # Copies, so that what is given stays as it is.
        x, y = (part[: task.batch_size].detach().clone() for part in (data.train_x, data.train_y))
        with user_errors(f"the model, on a batch of shape {tuple(x.shape)},"), _unwritten("the model", x):
            output = model(x)
        if task.is_classification:
            _check_labels(task, output, data)
        shapes = f"output {tuple(output.shape)} and target {tuple(y.shape)}"
        with user_errors(f"the loss, on {shapes},"), _unwritten("the loss", output, y):
            loss = task.training_loss(model, output, y)
        if not isinstance(loss, Tensor) or loss.dim() != 0:
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise TaskError(f"the loss is no scalar tensor ({shape}): return the mean over the batch")
        if not loss.requires_grad:
            raise TaskError("the loss does not depend on the parameters: do not detach or round on the way to it")
        if not math.isfinite(loss.item()):
            raise TaskError(
                f"the loss of the untrained model is {loss.item()}: check the loss and the scale of the inputs"
            )
        with user_errors("the metric, on a batch,"), _unwritten("the metric", y):
            metric = task.score(output.detach(), y)
        if metric.numel() != 1:
            raise TaskError(f"the metric is no scalar ({tuple(metric.shape)}): return one number for a batch")
        _try_validation(task, model.eval(), data)


def _try_validation(task: Task, model: nn.Module, data: Data) -> None:
    """Raises TaskError where the metric of the untrained model is no number on validation data."""
    value = math.nan
    for rows in (CHUNK, len(data.valid_x)):  # of all of them only where it is no number on some
        if not math.isfinite(value):
            x, y = (part[:rows].detach().clone() for part in (data.valid_x, data.valid_y))
            with (
                torch.no_grad(),
                user_errors("judging the untrained model"),
                _unwritten("the model or the metric", x, y),
            ):
                value = float(task.score(torch.cat([model(part) for part in x.split(CHUNK)]), y))
    if not math.isfinite(value):
        raise TaskError(
            f"the metric of the untrained model is {value} on the validation data: give one that is a number there"
        )


@contextmanager
def _unwritten(what: str, *given: object) -> Iterator[None]:
    """Runs its body; raises TaskError where it writes into what it is given, which is not for it alone."""
    before = [(tensor, write_count(tensor), tensor.detach().clone()) for tensor in given if isinstance(tensor, Tensor)]
    yield
    for tensor, version, values in before:
        if write_count(tensor) != version or not torch.allclose(tensor, values, 0, 0, equal_nan=True):
            raise TaskError(
                f"{what} writes into what it is given: compute anew there (x = x / 255 in place of x /= 255, nn.ReLU() "
                "in place of nn.ReLU(inplace=True)), or take a clone() first"
            )


def _counted(task: Task, y: Tensor) -> Tensor:
    """Returns the labels that the loss does not leave out."""
    return y[y != ignored_by(task.loss)]


def _check_labels(task: Task, output: Tensor, data: Data) -> None:
    classes = output.shape[1] if output.dim() > 1 else 0
    for part, y in (("training", data.train_y), ("validation", data.valid_y), ("test", data.test_y)):
        if y.is_floating_point() or not classes:
            continue
        labels = _counted(task, y)
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise TaskError(
                f"the {part} labels run from {low} to {high}, but the model has {classes} outputs: "
                f"labels must lie in 0 … {classes - 1}"
            )
