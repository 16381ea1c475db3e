"""A training loop of the user's own as a task."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from thalweg.compare.names import check_name
from thalweg.compare.task.grouping import Grouping, Groups, NoDecay
from thalweg.compare.task.task import DIRECTIONS, SHARES
from thalweg.compare.user_errors import TaskError


@dataclass(frozen=True)
class TrainingLoop:
    """A training loop of your own, which :func:`thalweg.compare` runs with each strategy's optimizer.

    A function of one argument, a :class:`thalweg.Run`, may be given as it is; this says more of it.

    Arguments:
        train: ``(run) -> None``, which trains once; see :class:`thalweg.Run`.
        name: the name of the task in reports; by default the function's.
        steps: the default length of a run, in batches.
        metric: the name of the reported number that judges; by default the first that is reported.
        higher_is_better: direction of the metric, where its name does not tell, as that of accuracy or loss does.
        target: the value of the metric for "time to target"; by default the protocol chooses it.
        description: a line for the report.
        no_decay, groups: settings of parameters by name, as of a :class:`thalweg.Task`, for loops that call
            ``run.optimizer(model)``.

    >>> TrainingLoop(lambda run: None, name="mine", metric="accuracy").direction
    'max'
    """

    train: Callable[[Any], None]
    name: str = ""
    steps: int = 1000
    metric: str | None = None
    higher_is_better: bool | None = None
    target: float | None = None
    description: str = ""
    no_decay: NoDecay = False
    groups: Groups = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not callable(self.train):
            raise TaskError(f"train is {self.train!r}: give a function of a thalweg.Run")
        if not self.name:
            object.__setattr__(self, "name", getattr(self.train, "__name__", "loop"))
        check_name("the task", self.name)
        _ = self.grouping  # which checks it
        if self.target is not None and not math.isfinite(self.target):
            raise TaskError(f"target is {self.target}: give a number, or omit it")

    @property
    def metric_name(self) -> str:
        """The metric's name."""
        return self.metric or "metric"

    @property
    def direction(self) -> Literal["max", "min"]:
        """Whether a higher (``"max"``) or a lower metric is better.

        Raises:
            TaskError: nothing says it.
        """
        if self.higher_is_better is not None:
            return "max" if self.higher_is_better else "min"
        if self.metric_name not in DIRECTIONS:
            raise TaskError(
                f"nothing says whether a larger {self.metric_name!r} is better: report it by a name such as accuracy "
                "or loss, or write task = thalweg.TrainingLoop(train, higher_is_better=True)"
            )
        return DIRECTIONS[self.metric_name]

    @property
    def metric_range(self) -> tuple[float, float]:
        """Least and largest value that the metric can have; infinite where that is not known."""
        return (0.0, 1.0) if self.metric_name in SHARES else (-math.inf, math.inf)

    @property
    def grouping(self) -> Grouping:
        """Which parameters have settings of their own."""
        return Grouping(self.no_decay, self.groups)

    @property
    def source(self) -> str:
        """The text of the function, where it has one."""
        return source_of(self.train)


def source_of(function: Any) -> str:
    """Returns the text of a function, or its name where there is no text."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return str(getattr(function, "__qualname__", type(function).__qualname__))


def is_loop(found: Any) -> bool:
    """Says whether an object is a function that takes a run, its one argument without a default."""
    if isinstance(found, type) or not callable(found):
        return False
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return False
    needed = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(needed) == 1
