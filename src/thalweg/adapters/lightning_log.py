"""``self.log`` of a LightningModule without a Trainer: what an epoch logs, as Lightning computes it.

=============================== =============================================================================
what is logged                  its value of an epoch
=============================== =============================================================================
a number or a tensor            mean over the batches, weighted by their sizes; ``reduce_fx`` may be sum, min or max
a metric of torchmetrics        its ``compute()`` at the end, over the whole part of the data
with ``on_epoch=False``         none
=============================== =============================================================================
"""

import operator
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.compare.user_errors import TaskError

REDUCTIONS: Mapping[str, Any] = {"mean": None, "sum": sum, "min": min, "max": max}


class EpochLog:
    """Takes the place of ``self.log`` and ``self.log_dict``; outside of an epoch it does nothing."""

    def __init__(self) -> None:
        self.is_open = False
        self._begin()

    def attach(self, module: nn.Module) -> nn.Module:
        """Makes the module log here, as copies of it log in copies of this."""
        module.log, module.log_dict = self.log, self.log_dict  # type: ignore[assignment]
        return module

    @staticmethod
    def of(module: nn.Module) -> "EpochLog":
        """Returns the log that is attached to a module."""
        log: Any = module.log
        found: EpochLog = log.__self__
        return found

    def open(self) -> None:
        """Begins an epoch."""
        self._begin()
        self.is_open = True

    def close(self) -> dict[str, float]:
        """Ends the epoch and returns what it has logged, by name, in the order in which it was logged first."""
        self.is_open = False
        found = {name: float(kept.compute()) for name, kept in self.kept.items()}
        self.kept.clear()  # so that copies of the module hold no other's metrics
        return found

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: Any = "mean",
        batch_size: int | None = None,
        **others: Any,
    ) -> None:
        """Takes a value; see Lightning's ``LightningModule.log`` for the arguments.

        Raises:
            TaskError: it is no number, or its reduction is not known.
        """
        if not self.is_open or on_epoch is False:
            return
        if is_metric(value):
            self.kept[name] = value
            if isinstance(better := getattr(value, "higher_is_better", None), bool):
                self.directions[name] = better
            return
        how = getattr(reduce_fx, "__name__", reduce_fx)
        if how not in REDUCTIONS:
            raise TaskError(f"the module logs {name!r} with reduce_fx={how!r}: use {', '.join(REDUCTIONS)}")
        try:
            number = float(torch.as_tensor(value, dtype=torch.float64).mean())
        except (TypeError, ValueError, RuntimeError) as error:
            raise TaskError(f"the module logs {name!r} as a {type(value).__name__}: log a number") from error
        self.kept.setdefault(name, _Numbers(how)).add(number, batch_size or self.size)

    def log_dict(self, dictionary: Mapping[str, Any], *args: Any, **options: Any) -> None:
        """Takes several values, or a collection of metrics."""
        own = {"keep_base": False, "copy_state": False} if is_collection(dictionary) else {}
        for name, value in dictionary.items(**own):
            self.log(name, value, *args, **options)

    def _begin(self) -> None:
        self.size = 1  # examples of the batch that is being evaluated
        self.kept: dict[str, Any] = {}
        self.directions: dict[str, bool] = {}  # of metrics that know whether a larger value is better


class _Numbers:
    """The numbers that the batches of an epoch log under one name."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.values: list[float] = []
        self.sizes: list[int] = []

    def add(self, value: float, size: int) -> None:
        self.values.append(value)
        self.sizes.append(size)

    def compute(self) -> float:
        if self.how == "mean":
            return sum(map(operator.mul, self.values, self.sizes)) / sum(self.sizes)
        return REDUCTIONS[self.how](self.values)


def is_metric(value: Any) -> bool:
    """Says whether a value is a metric of torchmetrics, whose state adds up over batches."""
    torchmetrics = sys.modules.get("torchmetrics")
    return torchmetrics is not None and isinstance(value, torchmetrics.Metric)


def is_collection(value: Any) -> bool:
    """Says whether a value is a collection of metrics of torchmetrics."""
    torchmetrics = sys.modules.get("torchmetrics")
    return torchmetrics is not None and isinstance(value, torchmetrics.MetricCollection)


def reset_metrics(module: nn.Module) -> bool:
    """Empties the metrics of torchmetrics that a module holds; returns whether one of them was updated."""
    updated = False
    for one in module.modules():
        metric: Any = one
        if is_metric(metric) and metric.update_called:
            metric.reset()
            updated = True
    return updated


def check_alone(loss: Tensor) -> None:
    """Raises TypeError where a loss is that of several stacked models, which metrics cannot tell apart."""
    try:
        loss.item()
    except RuntimeError as error:
        raise TypeError("training_step updates metrics of torchmetrics, which are of one model") from error


def as_loss(found: Any) -> Tensor:
    """Returns the loss of what a training step returns.

    Raises:
        TaskError: there is none.
    """
    loss = found.get("loss") if isinstance(found, Mapping) else found
    if not isinstance(loss, Tensor):
        raise TaskError(f"training_step returns a {type(found).__name__}: return the loss, or a dict with 'loss'")
    return loss
