"""A task: a model, its data, its loss, how it is judged, and what guided strategies take from it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from thalweg.architecture import AuxiliaryHeads
from thalweg.compare.arguments import SEED, check_whole
from thalweg.compare.names import check_name
from thalweg.compare.task.data import split_of
from thalweg.compare.task.examples import Batch, Examples, Split, input_of, target_of
from thalweg.compare.task.grouping import Grouping, Groups, NoDecay
from thalweg.compare.task.holding import Given
from thalweg.compare.task.judging import CROSS_ENTROPY, accuracy, ignored_by, r2
from thalweg.compare.task.nested import leaves
from thalweg.compare.user_errors import TaskError
from thalweg.optim.roles import check_roles
from thalweg.pretraining.blocks import Blocks
from thalweg.tensors.renamed import former_fields

Loss = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[nn.Module, Any], Tensor | tuple[Tensor, Any]]
Evaluate = Callable[[nn.Module, Iterable[Any]], Mapping[str, float] | float]
Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: Mapping[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
NAMED = ("accuracy", "r2", "loss")  # metrics of outputs
SHARES = (  # from 0 to 1
    *("accuracy", "acc", "balanced_accuracy", "top1", "top5", "auc", "auroc", "roc_auc", "auprc", "pr_auc"),
    *("average_precision", "ap", "map", "f1", "precision", "recall", "sensitivity", "specificity", "iou", "miou"),
    *("jaccard", "dice", "ssim", "exact_match"),
)
LARGER = (*SHARES, "r2", "bleu", "rouge", "psnr", "correlation", "kappa")
SMALLER = (
    *("loss", "error", "err", "perplexity", "ppl", "nll", "bce", "ce", "mse", "rmse", "mae", "mape", "wer", "cer"),
    "fid",
)
DIRECTIONS: Mapping[str, Literal["max", "min"]] = {
    **dict.fromkeys(LARGER, "max"),
    **dict.fromkeys(SMALLER, "min"),
}
KINDS: Mapping[str, tuple[Any, str]] = {
    "loss": ((Callable, type(None)), "a function (output, target)"),
    "step": ((Callable, type(None)), "a function (model, batch) -> loss"),
    "evaluate": ((Callable, type(None)), "a function (model, batches) -> {name: number}"),
    "collate_fn": ((Callable, type(None)), "a function of a list of examples"),
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
        train, valid, test: each a map-style dataset; a ``DataLoader``, whose batch size, ``collate_fn``, sampler and
            workers are kept; an ``IterableDataset``; or a function ``(seed) -> iterable of batches``, which may take
            the step to begin with as a second argument. With ``loss``, examples are pairs ``(input, target)``.
        loss: ``(output, target) -> scalar``, the mean over the batch.
        step: in place of ``loss``, ``(model, batch) -> loss`` or ``(loss, values)``, where a batch is whatever the data
            yield: tensors, nested in tuples, lists and dictionaries, or objects with a method ``to``.
        evaluate: with ``step``, ``(model, batches) -> {name: number}`` of a whole part of the data, the first of which
            is the metric unless ``metric`` names another one, or a number; by default the mean of the step's loss.
        collate_fn: makes a batch of a list of examples; by default torch's.
        precision: ``"bf16"`` or ``"fp16"`` runs the model under ``torch.autocast``, in training and evaluation;
            ``"fp16"`` scales its loss, and leaves out steps whose gradient is not finite.
        accumulate: number of minibatches whose mean gradient is that of a step, which counts as one evaluation.
        clip_norm: largest norm of a step's gradient; None does not clip.
        no_decay: True leaves biases, normalizations and other parameters of at most one dimension out of weight decay,
            as :func:`thalweg.optim.no_decay_groups` does; or names of the parameters to leave out, as in ``groups``.
        groups: settings of parameters by name, such as ``{"encoder": {"lr_scale": 0.1}, "embedding": {"frozen":
            True}}``: ``lr_scale``, a factor on the strategy's learning rate; ``weight_decay``, in place of the
            strategy's; ``frozen``, whether they are not trained. A name is that of a parameter or a module, the end of
            such names, or a pattern with ``*`` and ``?``; where two match, the later one holds.
        metric: ``"accuracy"``, ``"r2"``, ``"loss"`` or ``(output, target) -> scalar``; by default the accuracy for
            cross-entropy, and the loss otherwise. The accuracy reads targets as cross-entropy does: classes are the
            second dimension of the output, and targets are labels or probabilities; labels that the loss ignores do
            not count.
        batch_size: number of examples per minibatch.
        name: the name of the task in reports.
        higher_is_better: direction of the metric, where its name does not tell, as that of accuracy, r2, auc, f1, loss
            or perplexity does.
        target: the value of the metric for "time to target"; by default the protocol chooses it.
        steps: the default length of a run, in gradient evaluations.
        architectures: other models for the same data, by name, for strategies such as ``adam+NAME``.
        description: a line for the report.
        start: how a model that is a module, not a function, begins: with its weights as they are, as in fine-tuning, or
            with weights drawn anew for each seed (``"anew"``). What a function builds begins as the function gives it.
        resident: whether examples that differ each time that they are read are read once and kept as they are then;
            by default they are read anew each time.
        guidance_inputs: the information that guided strategies such as ``adam+fitnet`` take from the task.
        roles: what parameters are to the model, by name or pattern, for optimizers of matrices such as ``muon``:
            ``{"blocks.*.weight": "hidden"}``; by default a training step shows it, see
            :func:`thalweg.optim.parameter_roles`.

    >>> x, y = torch.randn(64, 3), torch.randint(2, (64,))
    >>> data = torch.utils.data.TensorDataset(x, y)
    >>> Task(lambda: nn.Linear(3, 2), data, data, data, nn.functional.cross_entropy).metric_name
    'accuracy'
    """

    model: Callable[[], nn.Module] | nn.Module
    train: Any
    valid: Any
    test: Any
    loss: Loss | None = None
    metric: Loss | str | None = None
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
    step: Step | None = None
    evaluate: Evaluate | None = None
    collate_fn: Callable[[list[Any]], Any] | None = None
    precision: Precision = "fp32"
    accumulate: int = 1
    clip_norm: float | None = None
    no_decay: NoDecay = False
    groups: Groups = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.loss is None) == (self.step is None):
            raise TaskError("give either loss, a function (output, target), or step, a function (model, batch) -> loss")
        if self.step is None and self.evaluate is not None:
            raise TaskError("evaluate belongs to step: give metric, a function (output, target), beside loss")
        if self.step is not None and callable(self.metric):
            raise TaskError("metric is a function of outputs, which step does not give: give evaluate")
        if self.precision not in PRECISIONS:
            raise TaskError(f"precision is {self.precision!r}: use {', '.join(PRECISIONS)}")
        check_whole("accumulate", self.accumulate, most=SEED[1], kind=TaskError)
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise TaskError(f"clip_norm is {self.clip_norm}: give a number above 0, or omit it")
        _ = self.grouping  # which checks it
        if isinstance(self.train, DataLoader) and self.train.batch_size:
            object.__setattr__(self, "batch_size", self.train.batch_size)
        if self.step is None and isinstance(self.metric, str) and self.metric not in NAMED:
            raise TaskError(f"unknown metric {self.metric!r}: use accuracy, r2, loss or a function (output, target)")
        for name, (kind, right) in KINDS.items():
            if not isinstance(getattr(self, name), kind):
                raise TaskError(f"{name} is {getattr(self, name)!r}: give {right}")
        check_name("the task", self.name)
        check_name("the metric", self.metric_name)
        for name in self.architectures:
            check_name("an architecture", name)
        try:
            check_roles(self.roles)
        except ValueError as error:
            raise TaskError(str(error)) from error
        if self.start not in ("as given", "anew"):
            raise TaskError(f"start is {self.start!r}: use 'as given' or 'anew'")
        if self.target is not None and not math.isfinite(self.target):
            raise TaskError(f"target is {self.target}: give a number, or omit it")

    @property
    def metric_name(self) -> str:
        """The metric's name."""
        if self.metric is None:
            return "accuracy" if self.is_classification else "metric" if self.evaluate else "loss"
        return self.metric if isinstance(self.metric, str) else getattr(self.metric, "__name__", "metric")

    @property
    def direction(self) -> Literal["max", "min"]:
        """Whether a higher (``"max"``) or a lower metric is better."""
        if self.higher_is_better is None and not callable(self.metric) and self.metric_name in DIRECTIONS:
            return DIRECTIONS[self.metric_name]
        return "min" if self.higher_is_better is False else "max"

    def check_direction(self) -> None:
        """Raises TaskError where nothing says whether a larger value of the metric is better."""
        if self.evaluate is not None and self.higher_is_better is None and self.metric_name not in DIRECTIONS:
            raise TaskError(
                f"nothing says whether a larger {self.metric_name!r} is better: give higher_is_better=True or False"
            )

    @property
    def is_given(self) -> bool:
        """Whether all runs begin with the weights that the model has."""
        return isinstance(self.model, nn.Module) and self.start == "as given"

    @property
    def metric_range(self) -> tuple[float, float]:
        """Least and largest value that the metric can have; infinite where that is not known."""
        if self.step is not None:
            return (0.0, 1.0) if self.evaluate and self.metric_name in SHARES else (-math.inf, math.inf)
        known = {accuracy: (0.0, 1.0), r2: (-math.inf, 1.0), "accuracy": (0.0, 1.0), "r2": (-math.inf, 1.0)}
        return known.get(self.metric or self.metric_name, (-math.inf, math.inf))

    def training_loss(self, model: nn.Module, output: Tensor, target: Tensor) -> Tensor:
        """Returns the loss that is trained, with that of the model's auxiliary heads where it has them."""
        assert self.loss is not None
        return model.loss(output, target, self.loss) if isinstance(model, AuxiliaryHeads) else self.loss(output, target)

    def loss_and_output(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Any]:
        """Returns the loss that is trained, of a batch, and the model's output, None where a step gives the loss."""
        with self.autocast(batch):
            if self.step is not None:
                return self.step_loss(model, batch), None
            output = model(input_of(batch))
            return self.training_loss(model, output, target_of(batch)), output

    def step_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Returns the loss that the task's step gives."""
        assert self.step is not None
        found = self.step(model, batch)
        loss = found[0] if isinstance(found, tuple) else found
        return loss.reshape(()) if isinstance(loss, Tensor) and loss.numel() == 1 else loss

    def evaluation_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Returns the loss by which a batch is evaluated, without that of auxiliary heads."""
        with self.autocast(batch):
            if self.loss is None:
                return self.step_loss(model, batch)
            return self.loss(model(input_of(batch)), target_of(batch))

    @property
    def stepping(self) -> dict[str, Any]:
        """Returns what a step does beside its optimizer, as far as it is not the default."""
        usual = {"precision": "fp32", "accumulate": 1, "clip_norm": None}
        return {name: value for name, plain in usual.items() if (value := getattr(self, name)) != plain}

    @property
    def grouping(self) -> Grouping:
        """Which parameters have settings of their own."""
        return Grouping(self.no_decay, self.groups)

    def autocast(self, batch: Batch) -> AbstractContextManager[object]:
        """Returns what runs its body in the task's precision, on the batch's device."""
        dtype = PRECISIONS[self.precision]
        if dtype is None:
            return nullcontext()
        device = next((tensor.device.type for tensor in leaves(batch)), "cpu")
        return torch.autocast(device, dtype)

    def split(self, part: Literal["train", "valid", "test"]) -> Split:
        """Returns the examples of a part of the data."""
        given = Given(self.batch_size, self.collate_fn, self.resident, self.step is None)
        return split_of(getattr(self, part), part, given)

    def examples(self) -> Examples:
        """Returns the examples of all parts."""
        return Examples(self.split("train"), self.split("valid"), self.split("test"))

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """Returns the metric of one model's output."""
        assert self.loss is not None
        if callable(self.metric):
            return torch.as_tensor(self.metric(output, target))
        if self.metric_name == "accuracy":
            return accuracy(output, target, ignored_by(self.loss), 1 if self.is_classification else None)
        return r2(output, target) if self.metric_name == "r2" else self.loss(output, target)

    @property
    def is_classification(self) -> bool:
        """Whether the loss is cross-entropy, so that targets are labels or their probabilities."""
        return self.loss in CROSS_ENTROPY or isinstance(self.loss, (nn.CrossEntropyLoss, nn.NLLLoss))
