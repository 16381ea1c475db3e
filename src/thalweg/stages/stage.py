"""A stage: a stretch of training with its objective, data, trainable part, rule and budget; a plan: stages in order."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.stages.early_stopping import EarlyStopping

Objective = Callable[[Any, Any, int], Any]  # (model, batch, step) -> scalar, or (scalar, output)
Validate = Callable[[Any], Mapping[str, float]]


class Averaged(Protocol):
    """What a stage asks of an average of the parameters; :class:`thalweg.averaging.Average` is one."""

    def update(self) -> None: ...
    def applied(self) -> AbstractContextManager[None]: ...
    def values(self) -> dict[str, Any]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any], /) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of training. It holds no state: the same stage may be run twice.

    Arguments:
        objective: ``(model, batch, step) -> loss``, a scalar that the step makes smaller, with ``step`` counted from 0
            in the stage; ``(loss, output)`` where the optimizer's curvature wants the output. One that has a
            ``state_dict`` is kept in checkpoints.
        data: batches, iterated anew each epoch: a ``DataLoader``, a list, :class:`Batches`; or a function of the model
            that makes them when the stage begins, from nothing that the stage changes.
        optimizer: function of the parameters, or of groups where there are ``rates``, that makes the optimizer, such
            as ``functools.partial(thalweg.optim.Adam, lr=1e-3)``. None goes on with that of the stage before, which
            must have had the same trainable part.
        steps, epochs: its budget, one of the two; steps of the optimizer, or passes over the data.
        name: its name in the history.
        trainable: names of modules or parameters that are trained, as in ``model.named_parameters()``; all that
            require a gradient by default. Modules of which nothing is trained are then in eval mode.
        rates: factors on the learning rate, by names of modules or parameters; 1 elsewhere.
        schedule: ``(t, total) -> factor`` on the learning rate, such as :class:`thalweg.rules.Schedule`.
        accumulate: batches a step, whose mean loss is the step's; an epoch's last step takes those that are left.
        precision: type of autocast, ``torch.bfloat16``; None computes in the parameters' own.
        validate: function of the model, in eval mode and without gradients, to named numbers.
        evaluate_every: steps between rows of the history, each with the training loss and what ``validate`` gives; a
            twentieth of the stage by default.
        early_stopping: ends the stage when a number of the rows no longer improves; the best parameters are kept.
        average: function of the model that makes an average, such as ``lambda m: Average(m, EMA(0.999))``, in whose
            place the stage is validated and ends; so it is with one that the optimizer's step updates.

    Raises:
        ValueError: no budget, two, or an empty one; numbers out of range.

    >>> stage = Stage(objective=lambda model, batch, step: model(batch).sum(), data=[torch.ones(2)],
    ...               optimizer=torch.optim.SGD, steps=10)
    >>> stage.total_steps(stage.data)
    10

    Source: Deep Learning, §8.7.4 and §8.7.6: strategies that change what is trained on what, in which order.
    """

    objective: Objective
    data: Iterable[Any] | Callable[[nn.Module], Iterable[Any]]
    optimizer: Callable[[Any], Optimizer] | None
    steps: int | None = None
    epochs: int | None = None
    name: str = "training"
    trainable: Sequence[str] | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    schedule: Callable[[int, int], float] | None = None
    accumulate: int = 1
    precision: torch.dtype | None = None
    validate: Validate | None = None
    evaluate_every: int | None = None
    early_stopping: EarlyStopping | None = None
    average: Callable[[Any], Averaged] | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                f"stage {self.name!r} has {self.steps} steps and {self.epochs} epochs: give either steps or epochs"
            )
        for what in ("steps", "epochs", "accumulate", "evaluate_every"):
            value = getattr(self, what)
            if value is not None and not (isinstance(value, int) and value >= 1):
                raise ValueError(f"stage {self.name!r}: {what} must be a whole number of at least 1, not {value!r}")
        if self.precision not in (None, torch.bfloat16):
            raise ValueError(
                f"stage {self.name!r}: precision is {self.precision}: choose torch.bfloat16, which needs no scaling of "
                "the loss, or None"
            )
        if isinstance(self.optimizer, Optimizer) or not (self.optimizer is None or callable(self.optimizer)):
            kind = type(self.optimizer).__name__
            raise ValueError(
                f"stage {self.name!r}: optimizer is a {kind}: give a function of the parameters that makes it, such as "
                "functools.partial(thalweg.optim.Adam, lr=1e-3)"
            )
        for part, factor in self.rates.items():
            if not factor >= 0:
                raise ValueError(f"stage {self.name!r}: the rate of {part!r} is {factor}: give a factor of 0 or more")

    def total_steps(self, data: Any) -> int:
        """Returns the number of steps on such data.

        Raises:
            ValueError: data without batches; epochs of data that have no length.
        """
        try:
            length = len(data)
        except TypeError:
            length = None
        if length == 0:
            raise ValueError(f"stage {self.name!r} has data without a batch: give it examples")
        if self.steps is not None:
            return self.steps
        if length is None:
            raise ValueError(f"stage {self.name!r} counts epochs of data that have no length: give it steps= instead")
        assert self.epochs is not None
        return self.epochs * -(-length // self.accumulate)


@dataclass(frozen=True)
class Plan:
    """Stages in order for one module, which may hold more than the model: temporary heads, a regressor.

    Arguments:
        model: what every stage's objective is given; its state is all that outlives a stage.
        stages: at least one.

    >>> stage = Stage(objective=lambda m, x, t: m(x).sum(), data=[], optimizer=None, epochs=1, name="joint")
    >>> print(Plan(nn.Linear(1, 1), [stage]))
    joint: 1 epochs
    """

    model: nn.Module
    stages: Sequence[Stage]

    def __str__(self) -> str:
        budgets = [f"{s.epochs} epochs" if s.steps is None else f"{s.steps} steps" for s in self.stages]
        return "\n".join(f"{s.name}: {budget}" for s, budget in zip(self.stages, budgets, strict=True))


def loss_of(value: Any) -> Tensor:
    """Returns the loss of what an objective gave, alone or with the output.

    Raises:
        TypeError: it is no scalar tensor.
    """
    loss = value[0] if isinstance(value, tuple) else value
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise TypeError(f"the objective gives {found}: return a scalar tensor, the mean over the batch")
    return loss
