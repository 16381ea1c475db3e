"""What a study is asked to be, from Python and from the command line alike."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from thalweg.compare.arguments import SECONDS, SEED, SEEDS, TRIALS, check_above, check_whole, duration
from thalweg.compare.execution import ENGINES, EngineName
from thalweg.compare.execution.ray.engines import Cluster
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.options import Tune, widened
from thalweg.compare.study import Judge
from thalweg.compare.study.criterion import check_judge
from thalweg.compare.task import Task
from thalweg.compare.task.grouping import NoDecay
from thalweg.compare.task.loop import TrainingLoop
from thalweg.compare.task.task import Precision
from thalweg.optim.decay import Decay, check_decay
from thalweg.tensors.files import check_utf8


@dataclass(frozen=True)
class StudyConfig:
    """The settings of a study, checked; their meanings and defaults are those of :func:`thalweg.compare`.

    Raises:
        ValueError: bad input; one line with the cause and the remedy.
    """

    task: str | Task | TrainingLoop | Callable[..., Any]
    strategies: Sequence[Strategy]
    trials: int = 12
    steps: int | None = None
    epochs: int | None = None
    budget: str | float | None = None
    seeds: int = 10
    engine: EngineName = "auto"
    cluster: Cluster | None = None
    device: str | None = None
    out: str | Path | None = None
    memory: int | None = None
    swap_batch_norm: bool = False
    decay: Decay = "all"
    precision: Precision | None = None
    accumulate: int | None = None
    clip_norm: float | None = None
    no_decay: NoDecay | None = None
    within: float | None = None
    judge: Judge = "metric"
    target: float | None = None
    until: Literal["decided"] | None = None
    at_most: str | float | None = None
    trial_seconds: float | None = None
    log: Sequence[str] = ()
    seed: int = 0
    added: Sequence[str] = ()  # names of strategies to add to the folder's study
    here: Path = field(default_factory=Path.cwd)

    @property
    def stepping(self) -> dict[str, Any]:
        """What the task's steps do, and its target, as far as they are asked for here."""
        names = ("precision", "accumulate", "clip_norm", "no_decay", "target")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def __post_init__(self) -> None:
        check_whole("trials", self.trials, most=TRIALS)
        check_whole("seeds", self.seeds, most=SEEDS)
        check_whole("seed", self.seed, *SEED)
        if self.steps is not None:
            check_whole("steps", self.steps)
        if self.epochs is not None:
            check_whole("epochs", self.epochs)
        if self.study_seconds is not None and self.engine == "ray":
            raise ValueError("budget is measured on this machine: give steps (--steps) with engine='ray'")
        lengths = [name for name in ("steps", "epochs", "budget") if getattr(self, name) is not None]
        if len(lengths) > 1:
            raise ValueError(f"{' and '.join(lengths)} each say how long runs are: omit all but one")
        if self.memory is not None:
            check_above("memory", self.memory)
        if self.trial_seconds is not None:
            check_above("trial_seconds", self.trial_seconds, SECONDS)
        if self.within is not None:
            check_above("within", self.within)
        check_judge(self.judge, self.target)
        if self.out is not None and not str(self.out):
            raise ValueError("out is empty: name a folder, or omit it")
        check_utf8(self.here / (self.out or ""))
        check_decay(self.decay)
        if self.until not in (None, "decided"):
            raise ValueError(f"until is {self.until!r}: use 'decided', or omit it")
        if self.at_most is not None:
            duration("at_most", self.at_most)
            if self.until is None:
                raise ValueError("at_most requires until='decided' (--until decided): add that, or omit at_most")
        if self.until is not None and self.judge != "metric":
            raise ValueError("until='decided' judges by the metric: omit judge (--judge), or omit until (--until)")
        if self.engine not in ENGINES:
            raise ValueError(f"engine is {self.engine!r}: choose among {', '.join(ENGINES)}")
        if self.cluster and self.engine != "ray":
            raise ValueError("cluster requires engine='ray' (--engine ray): add that, or omit the cluster")
        names = [s.name for s in self.strategies]
        if not names:
            raise ValueError("there are no strategies: name at least one, or two to compare them")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"strategy {twice[0]!r} is named twice: omit one")

    def only(self, names: Sequence[str], seeds: int) -> "StudyConfig":
        """Returns the settings of the part of the study with strategies of these names, and so many seeds."""
        return replace(self, strategies=[s for s in self.strategies if s.name in names], seeds=seeds)

    @property
    def study_seconds(self) -> float | None:
        """Seconds that the whole study is given; None where its length is."""
        return None if self.budget is None else duration("budget", self.budget)

    @property
    def limit(self) -> float | None:
        """Seconds that the study may take, as far as it adds runs; None for as long as it takes."""
        return None if self.at_most is None else duration("at_most", self.at_most)


def parsed(
    strategies: str | Strategy | Iterable[str | Strategy], here: Path, tune: Tune | None = None
) -> list[Strategy]:
    """Returns strategies that were given as such or by their names; relative paths start from ``here``.

    With ``tune="more"`` they have the search spaces that are published for them.

    >>> [s.name for s in parsed("sgd, adam@cosine", Path())]
    ['sgd', 'adam@cosine']
    """
    given = listed(strategies, "strategies")
    return widened([s if isinstance(s, Strategy) else Strategy.parse(s, here) for s in given], tune)


def listed(given: Any, name: str) -> list[Any]:
    """Returns what was given as a list: one thing, or a text of names with commas between them, as such."""
    if isinstance(given, str):
        return [word.strip() for word in given.split(",") if word.strip()]
    if isinstance(given, Strategy):
        return [given]
    if not isinstance(given, Iterable):
        raise ValueError(f"{name} is {given!r}: give a list of names")
    return list(given)
