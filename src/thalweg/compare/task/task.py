"""A task: a model, its data, its loss, how it is judged, and what guided strategies take from it."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import Dataset

from thalweg.architecture import AuxiliaryHeads
from thalweg.compare.names import check_name
from thalweg.compare.task.examples import Batch, first_inputs, input_of, target_of
from thalweg.compare.task.judging import CROSS_ENTROPY, accuracy, ignored_by, r2
from thalweg.compare.user_errors import TaskError, user_errors
from thalweg.pretraining.blocks import Blocks
from thalweg.tensors.renamed import former_fields

Loss = Callable[[Tensor, Tensor], Tensor]
KINDS: Mapping[str, tuple[Any, str]] = {
    "loss": (Callable, "a function (output, target)"),
    "metric": ((Callable, str, type(None)), "accuracy, r2, loss or a function (output, target)"),
    "target": ((int, float, type(None)), "a number, or omit it"),
    "higher_is_better": ((bool, type(None)), "True or False"),
}


@dataclass(frozen=True)
class GuidanceInputs:
    """The information that guided strategies take from a task; each strategy needs only its own part.

    Arguments:
        teacher: the teacher of ``fitnet`` and of the difficulties of curricula, whose default teacher is the task's own
            model: a function that builds it, so that it is trained in each run and charged to it, or a trained module,
            which is not charged.
        hint, guided: for ``fitnet``, a layer of the teacher and a layer of the model, or the same number of both.
        blocks: for ``greedy``, the hidden blocks of a model that is not an ``nn.Sequential``.
        source: for ``transfer``, a related task, from whose trained model parts are taken.
        parts: names of these parts, or the number of the first blocks; by default half of the blocks.
        difficulty: for curricula, one number per training example, of shape ``(n,)``; larger numbers are harder.

    Source: Deep Learning, §8.7.4 and §8.7.6.
    """

    teacher: Callable[[], nn.Module] | nn.Module | None = None
    hint: str | Sequence[str] = ""
    guided: str | Sequence[str] = ""
    blocks: Blocks | None = None
    source: "Callable[[], Task] | None" = None
    parts: int | Sequence[str] | None = None
    difficulty: Tensor | None = None


@former_fields({"guides": "guidance_inputs"})
@dataclass(frozen=True)
class Task:
    """A model with its data, its loss and its metric.

    Arguments:
        model: a function that builds the model (it draws from torch's global generator, which is seeded), or a module,
            which is copied for every run, see ``start``. A model with auxiliary heads is trained on their
            losses too, and evaluated without them.
        train, valid, test: map-style datasets of ``(input, target)`` pairs, whose tensors have one shape.
        loss: ``(output, target) -> scalar``, the mean over the batch.
        metric: ``"accuracy"``, ``"r2"``, ``"loss"`` or ``(output, target) -> scalar``; by default the accuracy for
            cross-entropy, and the loss otherwise. The accuracy reads targets as cross-entropy does: classes are the
            second dimension of the output, and targets are labels or probabilities; labels that the loss ignores do
            not count.
        batch_size: number of examples per minibatch.
        name: the name of the task in reports.
        higher_is_better: direction of a metric that is a function; the named metrics have a known direction.
        target: the value of the metric for "time to target"; by default the protocol chooses it.
        steps: the default length of a run, in gradient evaluations.
        architectures: other models for the same data, by name, for strategies such as ``adam+NAME``.
        description: a line for the report.
        start: how a model that is a module, not a function, begins: with its weights as they are, as in fine-tuning, or
            with weights drawn anew for each seed (``"anew"``). What a function builds begins as the function gives it.
        resident: whether examples that differ each time that they are read are read once and kept as they are then.
        guidance_inputs: the information that guided strategies such as ``adam+fitnet`` take from the task.

    >>> x, y = torch.randn(64, 3), torch.randint(2, (64,))
    >>> data = torch.utils.data.TensorDataset(x, y)
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
    guidance_inputs: GuidanceInputs = field(default_factory=GuidanceInputs)
    start: Literal["as given", "anew"] = "as given"
    resident: bool = False

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
        if self.start not in ("as given", "anew"):
            raise TaskError(f"start is {self.start!r}: use 'as given' or 'anew'")
        if self.target is not None and not math.isfinite(self.target):
            raise TaskError(f"target is {self.target}: give a number, or omit it")

    @property
    def metric_name(self) -> str:
        """The metric's name."""
        if self.metric is None:
            return "accuracy" if self.is_classification else "loss"
        return self.metric if isinstance(self.metric, str) else getattr(self.metric, "__name__", "metric")

    @property
    def direction(self) -> Literal["max", "min"]:
        """Whether a higher (``"max"``) or a lower metric is better."""
        if self.metric_name in ("accuracy", "r2", "loss") and not callable(self.metric):
            return "min" if self.metric_name == "loss" else "max"
        return "min" if self.higher_is_better is False else "max"

    @property
    def is_given(self) -> bool:
        """Whether all runs begin with the weights that the model has."""
        return isinstance(self.model, nn.Module) and self.start == "as given"

    @property
    def metric_range(self) -> tuple[float, float]:
        """Least and largest value that the metric can have; infinite where that is not known."""
        known = {accuracy: (0.0, 1.0), r2: (-math.inf, 1.0), "accuracy": (0.0, 1.0), "r2": (-math.inf, 1.0)}
        return known.get(self.metric or self.metric_name, (-math.inf, math.inf))

    def training_loss(self, model: nn.Module, output: Tensor, target: Tensor) -> Tensor:
        """Returns the loss that is trained, with that of the model's auxiliary heads where it has them."""
        return model.loss(output, target, self.loss) if isinstance(model, AuxiliaryHeads) else self.loss(output, target)

    def loss_and_output(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the loss that is trained, of a batch, and the model's output."""
        output = model(input_of(batch))
        return self.training_loss(model, output, target_of(batch)), output

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """Returns the metric of one model's output."""
        if callable(self.metric):
            return torch.as_tensor(self.metric(output, target))
        if self.metric_name == "accuracy":
            return accuracy(output, target, ignored_by(self.loss), 1 if self.is_classification else None)
        return r2(output, target) if self.metric_name == "r2" else self.loss(output, target)

    @property
    def is_classification(self) -> bool:
        """Whether the loss is cross-entropy, so that targets are labels or their probabilities."""
        return self.loss in CROSS_ENTROPY or isinstance(self.loss, (nn.CrossEntropyLoss, nn.NLLLoss))


def unshared(task: Task) -> Task:
    """Returns the task with a module in place of each function that gives the same module, or parameters, twice.

    So trials do not train each other's model. A module is copied for each trial.
    """

    def settled(source: Callable[[], nn.Module] | nn.Module) -> Callable[[], nn.Module] | nn.Module:
        if isinstance(source, nn.Module):
            return source
        with torch.random.fork_rng(devices=[]):
            first = build_model(replace(task, model=source))
            kept = copy.deepcopy(first)
            second = build_model(replace(task, model=source))
        return kept if {*map(id, first.parameters())} & {*map(id, second.parameters())} else source

    others = {name: settled(source) for name, source in task.architectures.items()}
    return replace(task, model=settled(task.model), architectures=others)


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
        x = first_inputs(task.train, task.batch_size)
    torch.set_rng_state(draws)
    training = model.training
    with user_errors(f"the model, on a batch of shape {tuple(x.shape)},"), torch.no_grad():
        model.eval()(x)
    if left := _lazy(model):
        raise TaskError(
            f"{left[0]} has no shape after a batch has passed through the model: give the sizes to its module"
        )
    return model.train(training)


def _lazy(model: nn.Module) -> list[str]:
    named = (*model.named_parameters(), *model.named_buffers())
    return [name for name, tensor in named if is_lazy(tensor)]
