"""By what strategies are judged: the test metric, or what training takes to reach a target of the validation metric.

A run reaches the target at the first evaluation point at which the validation metric meets it. One that does not, that
diverges or that failed is censored: it ranks behind every run that reached the target, and two such runs are a tie.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.compare.design import BEST
from thalweg.compare.statistics import time_to_target
from thalweg.compare.storage.result import TrialResult
from thalweg.compare.study import JUDGES, Judge

UNITS: Mapping[Judge, str] = {"metric": "", "time-to-target": "evaluations", "seconds-to-target": "seconds"}
SHARE = 0.95  # of the way from the start of the curves to the best end, where a target is chosen

Curves = Sequence[Sequence[float]]  # the validation metric of runs at their points


def check_judge(judge: str, target: float | None) -> None:
    """Raises ValueError where strategies cannot be judged so.

    >>> check_judge("time", None)
    Traceback (most recent call last):
    ValueError: judge is 'time': choose among metric, time-to-target, seconds-to-target
    """
    if judge not in JUDGES:
        raise ValueError(f"judge is {judge!r}: choose among {', '.join(JUDGES)}")
    if target is not None and not math.isfinite(target):
        raise ValueError(f"target is {target}: give a number, or omit it")


@dataclass(frozen=True)
class Criterion:
    """What is better.

    Attributes:
        judge: by what strategies are judged.
        direction: ``"max"`` or ``"min"`` of the metric.
        given: the target that was given; None for one that is chosen from the tuning trials.
    """

    judge: Judge
    direction: str
    given: float | None = None

    @classmethod
    def of(cls, design: Mapping[str, Any]) -> "Criterion":
        """Returns the criterion of a study."""
        return cls(design["judge"], design["task"]["direction"], design["task"]["target"])

    @property
    def is_timed(self) -> bool:
        """Whether the time to a target is judged."""
        return self.judge != "metric"

    def score(self, trial: Sequence[TrialResult], target: float | None) -> tuple[float, ...]:
        """Returns what orders trials, of which less is better; it begins with infinity where a trial failed.

        A trial that reaches the target sooner is better; among those that reach it at the same point, and among those
        that do not, the better metric at the end, then the lower loss.

        Arguments:
            trial: its stretches, one a rung.
            target: of the validation metric; None where there is none.
        """
        last = trial[-1]
        if last.status != "finished" or not math.isfinite(last.curve.valid_metric[-1]):
            return math.inf, math.inf
        sign = -1.0 if self.direction == "max" else 1.0
        metric = sign * last.curve.valid_metric[-1], last.curve.valid_loss[-1]
        if not self.is_timed:
            return metric
        reached = self.reached(trial, target)
        return (1.0, *metric) if reached is None else (0.0, float(reached), *metric)

    def reached(self, trial: Sequence[TrialResult], target: float | None) -> int | None:
        """Returns the gradient evaluations after which a trial reaches the target; None where it does not."""
        steps = [step for stretch in trial for step in stretch.curve.step]
        values = [value for stretch in trial for value in stretch.curve.valid_metric]
        return None if target is None else time_to_target(steps, values, target, self.direction)


def chosen_target(direction: str, curves: Sequence[Curves]) -> float | None:
    """Returns the target that lies 95 % of the way from the start of the curves to the best strategy's mean end.

    So it depends on no one's opinion, and is within reach of at least one strategy. None where there are no curves.

    Arguments:
        direction: of the metric.
        curves: of the runs of each strategy; of one whose runs did not all finish, none.

    >>> round(chosen_target("max", [[[0.1, 0.8], [0.3, 0.9]], [[0.2, 0.6]], []]), 4)
    0.8175
    """
    known = [runs for runs in curves if runs]
    if not known:
        return None
    best, worst = (max, min) if direction == "max" else (min, max)
    start, end = worst(_mean_at(runs, 0) for runs in known), best(_mean_at(runs, -1) for runs in known)
    return float(start + SHARE * (end - start))


def _mean_at(runs: Curves, point: int) -> float:
    return sum(curve[point] for curve in runs) / len(runs)


def best_curves(direction: str, tried: Sequence[Sequence[float]], ends: Sequence[bool]) -> list[list[float]]:
    """Returns the curves of the three best trials of a strategy by the metric at their end.

    Arguments:
        direction: of the metric.
        tried: the first and the last value of the validation metric of each trial; none where it failed.
        ends: whether each trial ran to the end; where one did, the others are left out.
    """
    sound = [i for i, values in enumerate(tried) if values and math.isfinite(values[-1])]
    whole = [i for i in sound if ends[i]] or sound
    sign = -1.0 if direction == "max" else 1.0
    return [list(tried[i]) for i in sorted(whole, key=lambda i: sign * tried[i][-1])[:BEST]]
