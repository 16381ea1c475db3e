"""The optimizer of a LightningModule's ``configure_optimizers``, with its learning-rate scheduler, as a strategy."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from thalweg.compare.strategy import Strategy
from thalweg.compare.task import Task, build_model
from thalweg.compare.user_errors import TaskError, user_errors
from thalweg.tensors.draws import own_draws

WIDTH = 100.0  # by which the learning rate is searched, on either side of the module's own
STEP = "scheduled"  # under which a parameter group keeps the number of steps that the scheduler has had
WHAT = "configure_optimizers"


def lightning_strategy(task: Task, *, name: str = "own") -> Strategy:
    """Returns the optimizer and the scheduler of the module's ``configure_optimizers`` as a strategy.

    The default configuration is the module's own. The learning rate is searched up to a hundred times as small and as
    large, that of all parameter groups by one factor; ``with_settings(lr=…)`` fixes it, and ``with_space`` searches
    another range.

    Arguments:
        task: that :func:`lightning` returned.
        name: of the strategy in reports.

    Raises:
        TaskError: there are several optimizers or schedulers, the scheduler follows a metric, or its intervals are
            epochs of a stream.

    Example::

        task = thalweg.adapters.lightning(Classifier, Images())
        thalweg.compare(task, ["adam", "momentum@cosine", thalweg.adapters.lightning_strategy(task)])
    """
    with own_draws(0):
        first = _configured(build_model(task))
    own_lr = first.rates[0]
    per_epoch = task.split("train").steps_per_epoch(task.batch_size) / task.accumulate
    if first.scheduler is not None and first.interval == "epoch" and per_epoch == math.inf:
        raise TaskError(f"the scheduler of {WHAT} steps each epoch, and a stream has none: write 'interval': 'step'")
    every = first.frequency * (1 if first.interval == "step" or per_epoch == math.inf else max(1, int(per_epoch)))

    def own(model: nn.Module, lr: float) -> torch.optim.Optimizer:
        made = _configured(model)
        for group, rate in zip(made.optimizer.param_groups, made.rates, strict=True):
            group["lr"] = rate * lr / own_lr
        if made.scheduler is not None:
            _Scheduled(_configured(model), every).follow(made.optimizer)
        return made.optimizer

    return Strategy(name, factory=own, defaults={"lr": own_lr}, space={"lr": (own_lr / WIDTH, own_lr * WIDTH)})


class _Configured(NamedTuple):
    """What ``configure_optimizers`` returns.

    Attributes:
        optimizer, scheduler: the one of each; the scheduler may be None.
        interval: ``"step"`` or ``"epoch"``, after which the scheduler steps.
        frequency: of how many of them.
    """

    optimizer: torch.optim.Optimizer
    scheduler: Any
    interval: str
    frequency: int

    @property
    def rates(self) -> list[float]:
        """The learning rates of the groups, without the scheduler's factor."""
        return [float(group.get("initial_lr", group["lr"])) for group in self.optimizer.param_groups]


class _Scheduled:
    """A scheduler that goes with an optimizer of its own, and whose factors another optimizer takes."""

    def __init__(self, made: _Configured, every: int) -> None:
        self.made, self.every, self.had = made, every, 0
        self.base = made.rates

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Multiplies the learning rates of the optimizer by the scheduler's factors, step by step."""
        for group in optimizer.param_groups:
            group[STEP] = 0
        optimizer.register_step_pre_hook(self._before)
        optimizer.register_step_post_hook(self._after)

    def _before(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        with warnings.catch_warnings(action="ignore"):  # on a scheduler that steps and an optimizer that does not
            while self.had < optimizer.param_groups[0][STEP] // self.every:
                self.made.scheduler.step()
                self.had += 1
        self.kept = [group["lr"] for group in optimizer.param_groups]
        now = self.made.optimizer.param_groups
        for group, clock, base in zip(optimizer.param_groups, now, self.base, strict=True):
            group["lr"] = group["lr"] * (float(clock["lr"]) / base if base else 1.0)
            group |= {name: clock[name] for name in ("momentum", "betas") if name in clock}  # one cycle changes them

    def _after(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group, lr in zip(optimizer.param_groups, self.kept, strict=True):
            group["lr"], group[STEP] = lr, group[STEP] + 1


def _configured(module: Any) -> _Configured:
    """Returns the optimizer and the scheduler that a module configures.

    Raises:
        TaskError: there is not one optimizer, or what a strategy cannot follow.
    """
    with user_errors(WHAT, "give it what it needs without a Trainer, or omit the strategy"):
        found = module.configure_optimizers()
    optimizers, schedulers = _parts(found)
    if len(optimizers) != 1 or len(schedulers) > 1:
        raise TaskError(
            f"{WHAT} returns {len(optimizers)} optimizers and {len(schedulers)} schedulers: a strategy has one, and at "
            "most one scheduler"
        )
    config: Any = schedulers[0] if schedulers else None
    config = config if isinstance(config, Mapping) else {"scheduler": config}
    scheduler = config["scheduler"]
    if isinstance(scheduler, ReduceLROnPlateau):
        raise TaskError(f"the scheduler of {WHAT} follows a metric, which no trial knows while it trains: omit it")
    if any("lr" not in group for group in optimizers[0].param_groups):
        raise TaskError(f"the optimizer of {WHAT} has no learning rate: give it as a strategy of your own, my.py:name")
    return _Configured(optimizers[0], scheduler, config.get("interval", "epoch"), int(config.get("frequency", 1)))


def _parts(found: Any) -> tuple[list[Any], list[Any]]:
    """Returns the optimizers and the schedulers of what ``configure_optimizers`` may return."""
    if isinstance(found, torch.optim.Optimizer):
        return [found], []
    if isinstance(found, Mapping):
        scheduler = found.get("lr_scheduler")
        return [found["optimizer"]], [] if scheduler is None else [scheduler]
    if isinstance(found, Sequence) and len(found) == 2 and all(isinstance(part, Sequence) for part in found):
        return list(found[0]), list(found[1])
    if isinstance(found, Sequence):
        parts = [_parts(one) for one in found]
        return [one for part in parts for one in part[0]], [one for part in parts for one in part[1]]
    raise TaskError(f"{WHAT} returns a {type(found).__name__}: return the optimizer")
