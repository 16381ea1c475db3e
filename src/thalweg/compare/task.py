"""A task: a model, its data, its loss and how it is judged; and every check before anything is trained."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from thalweg.architecture import AuxiliaryHeads
from thalweg.compare.guides import Guides
from thalweg.compare.judging import CROSS_ENTROPY, accuracy, ignored_by, r2
from thalweg.compare.names import check_name
from thalweg.compare.ranges import SEED, check_whole
from thalweg.compare.user_errors import TaskError, brief, user_errors
from thalweg.tensors.private import write_count

Loss = Callable[[Tensor, Tensor], Tensor]
KINDS: Mapping[str, tuple[Any, str]] = {
    "loss": (Callable, "a function (output, target)"),
    "metric": ((Callable, str, type(None)), "accuracy, r2, loss or a function (output, target)"),
    "target": ((int, float, type(None)), "a number, or leave it out"),
    "higher_is_better": ((bool, type(None)), "True or False"),
}
CHUNK = 1024  # rows evaluated at once, before anything is trained


class Data(NamedTuple):
    """The examples of a task as stacked tensors, first dimension the example."""

    train_x: Tensor
    train_y: Tensor
    valid_x: Tensor
    valid_y: Tensor
    test_x: Tensor
    test_y: Tensor


@dataclass(frozen=True)
class Task:
    """What is trained: any model, any map-style dataset of (input, target) pairs.

    Arguments:
        model: a function that builds the model (drawing from torch's global generator, which is seeded), or a
            module, which is copied and initialized anew for every seed. With auxiliary heads it is trained
            on their losses too, and judged without them.
        train, valid, test: datasets of ``(input, target)`` pairs of tensors of one shape.
        loss: ``(output, target) -> scalar``, the mean over the batch.
        metric: ``"accuracy"``, ``"r2"``, ``"loss"`` or ``(output, target) -> scalar``; accuracy for
            cross-entropy by default, else the loss. Accuracy takes targets as cross-entropy does: classes in the second
            dimension of the output, labels or probabilities; what the loss ignores does not count.
        batch_size: examples a minibatch.
        name: its name in reports.
        higher_is_better: direction of a metric that is a function; the named ones know theirs.
        target: metric value that "time to target" counts to; chosen by the protocol by default.
        steps: default length of a run, in gradient evaluations.
        architectures: other models for the same data by name, for strategies such as ``adam+NAME``.
        description: one line for the report.
        guides: what guided strategies such as ``adam+fitnet`` take from the task.

    >>> x, y = torch.randn(64, 3), torch.randint(2, (64,))
    >>> data = TensorDataset(x, y)
    >>> Task(lambda: nn.Linear(3, 2), data, data, data, nn.functional.cross_entropy).metric_name
    'accuracy'
    """

    model: Callable[[], nn.Module] | nn.Module
    train: Dataset[Any]
    valid: Dataset[Any]
    test: Dataset[Any]
    loss: Loss
    metric: Loss | Literal["accuracy", "r2", "loss"] | None = None
    batch_size: int = 64
    name: str = "task"
    higher_is_better: bool | None = None
    target: float | None = None
    steps: int = 1000
    description: str = ""
    architectures: Mapping[str, Callable[[], nn.Module] | nn.Module] = field(default_factory=dict)
    guides: Guides = field(default_factory=Guides)

    def __post_init__(self) -> None:
        if isinstance(self.metric, str) and self.metric not in ("accuracy", "r2", "loss"):
            raise TaskError(f"unknown metric {self.metric!r}: use accuracy, r2, loss or a function (output, target)")
        for name, (kind, right) in KINDS.items():
            if not isinstance(getattr(self, name), kind):
                raise TaskError(f"{name} is {getattr(self, name)!r}: give {right}")
        check_name("the task", self.name)
        check_name("the metric", self.metric_name)
        for name in self.architectures:
            check_name("an architecture", name)
        if self.target is not None and not math.isfinite(self.target):
            raise TaskError(f"target is {self.target}: give a number, or leave it out")

    @property
    def metric_name(self) -> str:
        """The metric's name."""
        if self.metric is None:
            return "accuracy" if self._is_classification else "loss"
        return self.metric if isinstance(self.metric, str) else getattr(self.metric, "__name__", "metric")

    @property
    def direction(self) -> Literal["max", "min"]:
        """Whether a higher (``"max"``) or a lower metric is better."""
        if self.metric_name in ("accuracy", "r2", "loss") and not callable(self.metric):
            return "min" if self.metric_name == "loss" else "max"
        return "min" if self.higher_is_better is False else "max"

    @property
    def metric_range(self) -> tuple[float, float]:
        """Least and largest value that the metric can have; infinite where that is not known."""
        known = {accuracy: (0.0, 1.0), r2: (-math.inf, 1.0), "accuracy": (0.0, 1.0), "r2": (-math.inf, 1.0)}
        return known.get(self.metric or self.metric_name, (-math.inf, math.inf))

    def training_loss(self, model: nn.Module, output: Tensor, target: Tensor) -> Tensor:
        """Returns the loss that is trained, with that of the model's auxiliary heads where it has them."""
        return model.loss(output, target, self.loss) if isinstance(model, AuxiliaryHeads) else self.loss(output, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """Returns the metric of one model's output."""
        if callable(self.metric):
            return torch.as_tensor(self.metric(output, target))
        if self.metric_name == "accuracy":
            return accuracy(output, target, ignored_by(self.loss), 1 if self._is_classification else None)
        return r2(output, target) if self.metric_name == "r2" else self.loss(output, target)

    @property
    def _is_classification(self) -> bool:
        return self.loss in CROSS_ENTROPY or isinstance(self.loss, (nn.CrossEntropyLoss, nn.NLLLoss))


def build_model(task: Task) -> nn.Module:
    """Returns a new model of the task.

    Raises:
        TaskError: the factory raises or gives no module.
    """
    if isinstance(task.model, nn.Module):
        with user_errors("copying the task's model", "give a function that builds it"):
            model = copy.deepcopy(task.model)
        return _shaped(model, task)
    with user_errors("the task's model()", "correct the function that builds the model"):
        model = task.model()
    if not isinstance(model, nn.Module):
        raise TaskError(f"the task's model() gives a {type(model).__name__}: return a torch.nn.Module")
    return _shaped(model, task)


def _shaped(model: nn.Module, task: Task) -> nn.Module:
    """Returns the model with its lazy parameters made, as the first examples have them."""
    if not _lazy(model):
        return model
    draws = torch.get_rng_state()  # so that parameters do not depend on what reading draws
    with user_errors("reading the train data"):
        rows = [task.train[i][0] for i in range(min(task.batch_size, len(task.train)))]  # type: ignore[arg-type]
        x = torch.stack([torch.as_tensor(row) for row in rows])
    torch.set_rng_state(draws)
    training = model.training
    with user_errors(f"the model, on a batch of shape {tuple(x.shape)},"), torch.no_grad():
        model.eval()(x)
    if left := _lazy(model):
        raise TaskError(f"{left[0]} has no shape after a batch has gone through the model: give its module its sizes")
    return model.train(training)


def _lazy(model: nn.Module) -> list[str]:
    named = (*model.named_parameters(), *model.named_buffers())
    return [name for name, tensor in named if is_lazy(tensor)]


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
        if task._is_classification and not y.is_floating_point() and (labels := _counted(task, y).unique()).numel() < 2:
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
        if task._is_classification:
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
