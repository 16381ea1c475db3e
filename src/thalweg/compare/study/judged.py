"""The final runs of a study as they are judged: which failed, by how much one strategy is better than another."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, variance
from typing import Any

from thalweg.compare.design import PROTOCOL, SEQUENTIAL
from thalweg.compare.statistics import (
    between_halves,
    luck_of_tuning,
    median_time,
    more_often,
    shift,
    signed_rank,
    typical,
)
from thalweg.compare.study import Judge
from thalweg.compare.study.untrained import Untrained, failed

ALPHA = 0.05
MOST = 0.0125  # level of one comparison, however few there are
ERRORS = 2.5  # standard errors of the mean gain that count as clear
HALVES = 2.0  # typical distances of a half's run from the middle of both that count as clear, where trials are added


@dataclass(frozen=True)
class Runs:
    """The final runs of one strategy, a seed at each position.

    Attributes:
        scores: what is judged: the test metric, None where the run diverged; or the time to the target, None where it
            is not reached.
        failed: whether the run is lost in every comparison: it failed, or did not reach the target.
        steps: gradient evaluations to the target, None where it was not reached.
    """

    scores: Sequence[float | None]
    failed: Sequence[bool]
    steps: Sequence[int | None]


@dataclass(frozen=True)
class Judged:
    """What is compared, and how.

    Attributes:
        runs: of each strategy.
        direction: ``"max"`` or ``"min"`` of what is judged.
        metric: its name; of a time, its unit.
        choices: of each strategy, the recommended configuration in words.
        within: the margin inside which strategies count as equivalent; None for a tenth of their spread.
        goal: what the time to target counts to, in words.
        is_tuned_apart: whether each run has a tuning of its own.
        looks: how often the study is judged, at most, as runs are added.
        adds_trials: whether runs are added with trials of tuning.
        unmeasured: strategies whose runs ended, but whose metric is a number for none.
        ended: what the study added and what ended it, in words; empty for one that makes one batch of runs.
        impossible: strategies that could not run, which are not compared, with what they do instead.
        judge: by what strategies are judged.
        precision: of each strategy, the share by which the measured seconds of a step may be too few or too many.
        horizon: the time at which the longest runs end, which stands for one that is not reached where sizes count.
        ties: of each strategy, what ranks those that typically take as long, lower for better.
        costs, precision_of_costs: the seconds of a run, empty where not comparable, and the share they may be off by.

    A strategy that was behind at a look has the runs until then; it is compared by those.
    """

    runs: Mapping[str, Runs]
    direction: str
    metric: str
    choices: Mapping[str, str] = field(default_factory=dict)
    within: float | None = None
    goal: str = ""
    is_tuned_apart: bool = True
    looks: int = 1
    adds_trials: bool = False
    unmeasured: Sequence[str] = ()
    ended: str = ""
    impossible: Mapping[str, str] = field(default_factory=dict)
    judge: Judge = "metric"
    precision: Mapping[str, float] = field(default_factory=dict)
    horizon: float = math.inf
    ties: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    precision_of_costs: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_timed(self) -> bool:
        """Whether the time to a target is judged."""
        return self.judge != "metric"

    @property
    def level(self) -> float:
        """That of one comparison at one look."""
        return level_of(len(self.runs), self.looks)

    @property
    def seeds(self) -> int:
        """The number of final runs of the strategies that were longest in question."""
        return max(len(runs.scores) for runs in self.runs.values())

    def typical(self, name: str) -> float:
        """Returns the typical score of a strategy's runs that trained; NaN where none did.

        Of times it is the median, infinite where half of the runs do not reach the target.
        """
        own = trained(self.runs[name])
        return median_time(own).mean if self.is_timed else typical(own).mean

    def gains(self, a: str, b: str, slack: float = 0.0) -> list[float]:
        """Returns by how much ``a`` is better than ``b`` on each seed that both were trained with.

        It is infinite where one of them alone failed. Scores of ``b`` count as less by the share ``slack``.
        """
        sign, one, two = 1 if self.direction == "max" else -1, self.runs[a], self.runs[b]
        found = []
        for x, y, lost, won in zip(one.scores, two.scores, one.failed, two.failed, strict=False):
            if lost or won:
                found.append(0.0 if lost and won else -math.inf if lost else math.inf)
            else:
                assert x is not None and y is not None  # noqa: PT018
                found.append(sign * (x - y / (1 + slack)))
        return found

    def sure_gains(self, a: str, b: str) -> list[float]:
        """Returns the gains of ``a`` over ``b`` if the seconds of a step are as far off as they may be, against ``a``.

        That error is the same for all runs, so that no number of runs shows it.
        """
        return self.gains(a, b, self.precision.get(a, 0.0) + self.precision.get(b, 0.0))

    def sizes(self, a: str, b: str, gains: Sequence[float]) -> list[float]:
        """Returns gains of ``a`` over ``b`` with the horizon in place of a time that is not reached."""
        if not self.is_timed:
            return list(gains)
        found = []
        for gain, x, y in zip(gains, self.runs[a].scores, self.runs[b].scores, strict=False):
            reached = x if x is not None else y if y is not None else self.horizon
            found.append(gain if math.isfinite(gain) else math.copysign(self.horizon - reached, gain))
        return found

    def relative_gains(self, a: str, b: str) -> list[float]:
        """Returns the gains without outliers, and relative to the largest."""
        return _drawn_in(self.sizes(a, b, self.gains(a, b)))

    def beats(self, a: str, b: str) -> bool:
        """Says whether ``a`` is better than ``b``, or fails less often, at the level of one comparison.

        Of times to a target there is one test: a run that does not reach it is lost there.
        """
        apart = [p - q for p, q in zip(self.runs[b].failed, self.runs[a].failed, strict=False)]
        oftener = not self.is_timed and more_often(apart.count(1), apart.count(-1)) <= self.level
        if oftener and (not self.adds_trials or self._is_beyond_luck(apart)):
            return True
        gains = self.sure_gains(a, b)
        return self.clearly(gains, self.level, self.sizes(a, b, gains))

    def clearly(self, gains: Sequence[float], level: float, sizes: Sequence[float] | None = None) -> bool:
        """Says whether gains are above zero beyond the luck of seeds and, where each run has its own, of tuning.

        Arguments:
            gains: are ranked.
            level: of the test of ranks.
            sizes: of the gains, whose mean is judged; by default as they are.
        """
        if signed_rank(gains) > level:
            return False
        return not self.is_tuned_apart or self._is_beyond_luck(_drawn_in(gains if sizes is None else sizes))

    def _is_beyond_luck(self, inside: Sequence[float]) -> bool:
        """Says whether a mean gain is more than the luck of tuning may be.

        One look trusts the estimate of that luck. It often comes out too small, so that several looks would find it so
        sooner or later; they compare with what it is estimated from, before that is freed of the luck of seeds.
        """
        if self.adds_trials:
            return fmean(inside) >= HALVES * math.sqrt(max(variance(inside) / len(inside), between_halves(inside)))
        return fmean(inside) >= ERRORS * _error(inside)

    def is_hidden(self, gains: Sequence[float]) -> bool:
        """Says whether the luck of tuning hides gains, so that more trials would show them and more seeds would not."""
        if not self.is_tuned_apart:
            return False
        if self.adds_trials:
            return not self._is_beyond_luck(gains) and luck_of_tuning(gains) > between_halves(gains) / 2
        return luck_of_tuning(gains) > 2 * variance(gains) / len(gains)

    def is_equivalent(self, a: str, b: str, margin: float) -> bool:
        """Says whether two strategies differ by less than the margin, by two one-sided tests at 5 %.

        The 90 % interval of what pairs typically differ by lies inside it, and so does the mean gain with 2 of its
        standard errors, which include the luck of tuning.
        """
        least, most = self.sure_gains(a, b), [-gain for gain in self.sure_gains(b, a)]
        if not (-margin <= shift(least, 0.9).low and shift(most, 0.9).high <= margin):
            return False
        return max(self._reach(self.sizes(a, b, found)) for found in (least, most)) <= margin

    def _reach(self, gains: Sequence[float]) -> float:
        """Returns the size of the mean gain and 2 of its standard errors."""
        inside, largest = _drawn_in(gains), _largest(gains)
        return (abs(fmean(inside)) + 2.0 * (_error(inside) if self.is_tuned_apart else 0.0)) * largest


def _tails(gains: Sequence[float]) -> tuple[float, float]:
    """Returns the lowest and the highest gain without the extreme tenths."""
    ranked, tail = sorted(gains), (len(gains) + 2) // 10
    return ranked[tail], ranked[-1 - tail]


def _largest(gains: Sequence[float]) -> float:
    """Returns the size of the largest finite gain inside the tails; 1 where all are zero."""
    low, high = _tails(gains)
    return max((abs(g) for g in gains if low <= g <= high and math.isfinite(g)), default=0.0) or 1.0


def _drawn_in(gains: Sequence[float]) -> list[float]:
    """Returns the gains with the extreme tenths drawn in, as shares of the largest that is left."""
    (low, high), most = _tails(gains), _largest(gains)
    return [min(max(min(max(g, low), high) / most, -1.0), 1.0) for g in gains]


def _error(inside: Sequence[float]) -> float:
    """Returns the standard error of the mean of gains, the luck of tuning included."""
    return math.sqrt(max(variance(inside) / len(inside), luck_of_tuning(inside)))


def level_of(strategies: int, looks: int = 1) -> float:
    """Returns the level of one comparison of so many strategies, of which the looks get equal shares.

    >>> level_of(2), level_of(11), level_of(11, looks=4)
    (0.0125, 0.005, 0.00125)
    """
    return min(MOST, ALPHA / max(1, strategies - 1)) / looks


def trained(runs: Runs) -> list[float | None]:
    """Returns the scores of the runs that trained, None for the others."""
    return [None if failed else x for x, failed in zip(runs.scores, runs.failed, strict=True)]


def judge(
    design: Mapping[str, Any],
    scores: Mapping[str, Sequence[float | None]],
    untrained: Untrained,
    starts: Mapping[str, str],
    **more: Any,
) -> Judged:
    """Returns final runs as they are judged.

    Arguments:
        design: of the study.
        scores: test metric of each run of each strategy, None where it diverged.
        untrained: what a run has to get away from.
        starts: of each strategy, what decides where its runs begin.
        more: attributes of :class:`Judged`, and ``steps`` to the target of each run.
    """
    direction, impossible = design["task"]["direction"], more.get("impossible", {})
    if len(impossible) < len(scores):
        scores = {name: own for name, own in scores.items() if name not in impossible}
    known = [] if untrained.constant is None else [untrained.constant]
    is_given = design["task"].get("is_given", False)  # a model that is trained already is no measure of learning
    base = {name: [*known, *([] if is_given else [median(untrained.scores[at])])] for name, at in starts.items()}
    budget, adds = design["budget"], design["protocol"] >= SEQUENTIAL
    lost = failed(scores, direction, base, budget["seeds"] if adds else None)
    steps = more.pop("steps", {})
    runs = {name: Runs(own, lost[name], steps.get(name, [None] * len(own))) for name, own in scores.items()}
    settings = {"within": design["within"], "is_tuned_apart": design["protocol"] >= PROTOCOL, "adds_trials": adds}
    return Judged(runs, direction, design["task"]["metric"], looks=budget.get("looks", 1), **{**settings, **more})


def could_not_run(statuses: Iterable[str]) -> bool:
    """Says whether a strategy could not run, by the statuses of its final runs."""
    return {*statuses} == {"could not run"}


@dataclass(frozen=True)
class Behind:
    """A strategy that another one beats.

    Attributes:
        name: of the strategy.
        beaten_by: the strategy that beats it most surely.
        lost: runs lost to that one.
        runs: number of runs.
        typically: by how much it is worse; infinite where it mostly failed.
        at_least: by how much at least, at the level of one comparison.
        p: of the comparison, one-sided.
    """

    name: str
    beaten_by: str
    lost: int
    runs: int
    typically: float
    at_least: float
    p: float
