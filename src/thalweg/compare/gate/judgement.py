"""The answer to a gate, from the runs that there are: better, worse, equal within a margin, or not decided.

It depends on the runs alone, not on how often they were judged before: the bounds hold at every look.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from thalweg.compare.gate.runs import Run
from thalweg.compare.sequential import FAILS, LEAST, difference, fails_more_often, resolution_of
from thalweg.compare.statistics import Interval
from thalweg.compare.study.untrained import failed
from thalweg.compare.user_errors import TaskError

Answer = Literal["better", "worse", "equal", "not decided"]
FIRST = 3  # runs of a side of which one must have ended
COPIES = 2  # seeds under which both sides run alike, bit for bit, if nothing is changed
CHANCE = 0.01  # that scores agree on all seeds, below which it is none


@dataclass(frozen=True)
class Judgement:
    """What the runs say.

    Attributes:
        answer: of the gate, for the candidate.
        gain: by how much the candidate is better, in units of the metric, where larger is better, and its bounds.
        pairs: runs of each side.
        trained: pairs of which neither run failed.
        lost: which runs failed, of the baseline and of the candidate.
        untaught: how many of these ended, and have learned nothing.
        evidence: that they fail at different rates, which counts from 36 on.
        by_failures: whether failures alone decided it.
        identical: whether the sides ran alike under every seed.
    """

    answer: Answer
    gain: Interval
    pairs: int
    trained: int
    lost: tuple[Sequence[bool], Sequence[bool]]
    evidence: float
    by_failures: bool = False
    identical: bool = False
    untaught: int = 0

    @property
    def failed(self) -> tuple[int, int]:
        """How many runs failed, of the baseline and of the candidate."""
        one, two = self.lost
        return sum(one), sum(two)


def judge(
    baseline: Sequence[Run],
    candidate: Sequence[Run],
    direction: str,
    within: float | None = None,
    constants: tuple[float | None, float | None] = (None, None),
) -> Judgement:
    """Returns the answer.

    Arguments:
        baseline, candidate: runs, those at one position being a pair.
        direction: ``"max"`` or ``"min"`` of the metric.
        within: the margin inside which the sides count as equal; None for none.
        constants: for each side, the score of the best constant model, where it is known.

    >>> one = [Run(i, 0.90 + 0.001 * (i % 3)) for i in range(5)]
    >>> two = [Run(i, 0.93 + 0.001 * (i % 2)) for i in range(5)]
    >>> judge(one, two, "max").answer, judge(two, one, "max").answer, judge(one, one, "max").answer
    ('better', 'worse', 'equal')
    """
    sign = 1.0 if direction == "max" else -1.0
    lost, missed = _failed(baseline, candidate, direction, constants)
    both = [
        (sign * a.score, sign * b.score)
        for a, b, x, y in zip(baseline, candidate, lost, missed, strict=True)
        if not (x or y) and a.score is not None and b.score is not None
    ]
    x, y = [a for a, _ in both], [b for _, b in both]
    bounds = Interval(math.nan, -math.inf, math.inf)
    if both:
        bounds = Interval(*(float(v) for v in difference(x, y, resolution_of([*x, *y]))))
    evidence, more = fails_more_often(lost, missed), sum(missed) - sum(lost)
    identical = _are_identical(baseline, candidate)
    answer: Answer = "not decided"
    by_failures = evidence >= FAILS and more != 0 and not identical
    if identical:
        answer, bounds = "equal", Interval(0.0, 0.0, 0.0) if both else bounds
    elif by_failures:
        answer = "worse" if more > 0 else "better"
    elif within is not None and not more and -within < bounds.low and bounds.high < within:
        answer = "equal"
    elif bounds.low > 0 >= more:
        answer = "better"
    elif bounds.high < 0 <= more:
        answer = "worse"
    failures = zip((*baseline, *candidate), (*lost, *missed), strict=True)
    untaught = sum(is_failed and run.score is not None for run, is_failed in failures)
    return Judgement(
        answer, bounds, len(baseline), len(both), (lost, missed), evidence, by_failures, identical, untaught
    )


def check_runs(baseline: Sequence[Run], candidate: Sequence[Run], metric: str) -> None:
    """Raises TaskError where the runs can tell nothing, however many more there are.

    A side has not ended one of its first three runs, or its metric is the same under every seed.
    """
    sides = {"baseline": baseline, "candidate": candidate}
    whys = {name: runs[0].why for name, runs in sides.items() if len(runs) >= FIRST and not _ended(runs)}
    if len(whys) == 2:
        raise TaskError(f"all {len(baseline)} runs of both sides failed ({whys['baseline']}): correct both")
    for name, why in whys.items():
        if all(run.status == "failed" for run in sides[name]):
            raise TaskError(f"the {name} has failed in each of its {len(sides[name])} runs ({why}): correct it")
    if _are_identical(baseline, candidate) and any(run.trace for run in baseline):
        return
    ended = {name: _ended(runs) for name, runs in sides.items()}
    if min(map(len, ended.values())) >= LEAST and all(len(set(own)) == 1 for own in ended.values()):
        raise TaskError(
            f"the {metric} is the same in all runs of a side ({ended['baseline'][0]:g} and {ended['candidate'][0]:g}), "
            "so that nothing shows what a seed does: judge by a metric that varies, or let the seed reach the training"
        )


def _ended(runs: Sequence[Run]) -> list[float]:
    return [run.score for run in runs if run.score is not None]


def _failed(
    baseline: Sequence[Run], candidate: Sequence[Run], direction: str, constants: tuple[float | None, float | None]
) -> tuple[list[bool], list[bool]]:
    """Returns which runs failed, as in a study: those without a score, and those that have learned nothing."""
    names = ("baseline", "candidate")
    scores = {n: [run.score for run in runs] for n, runs in zip(names, (baseline, candidate), strict=True)}
    base = {}
    for name, runs, constant in zip(names, (baseline, candidate), constants, strict=True):
        known = [run.untrained for run in runs if run.untrained is not None]
        base[name] = [*([] if constant is None else [constant]), *([median(known)] if known else [])]
    found = failed(scores, direction, base)
    return found["baseline"], found["candidate"]


def _are_identical(baseline: Sequence[Run], candidate: Sequence[Run]) -> bool:
    """Says whether both sides ran alike under every seed, and not alike under all of them.

    Where learning curves are known, two seeds are enough: no two trainings that differ agree in every loss. Scores
    alone have to agree on so many seeds that it is no chance.
    """
    sides = (baseline, candidate)
    if all(run.trace for runs in sides for run in runs):
        one, two = ([run.trace for run in runs] for runs in sides)
        return len(one) >= COPIES and one == two and len(set(one)) > 1
    scores = [run.score for run in baseline]
    if scores != [run.score for run in candidate] or len(scores) < LEAST or len(set(scores)) == 1:
        return False
    by_chance = sum((scores.count(score) / len(scores)) ** 2 for score in set(scores))
    return by_chance ** len(scores) < CHANCE
