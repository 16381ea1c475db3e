"""Final runs as they are judged by the time to a target, and what is said of them then.

A time is a number of gradient evaluations, or of seconds: the evaluations times the seconds of one, which are measured
for each strategy alone, on the device, in turns. What is off in that measurement is off for all runs of a strategy, so
that a test of runs does not see it: a strategy counts as faster only where it is so, too, if the seconds are off by as
much as they may be.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

from thalweg.compare.arguments import in_words
from thalweg.compare.statistics import Interval, median_time, proportion
from thalweg.compare.study import Judge
from thalweg.compare.study.criterion import UNITS
from thalweg.compare.study.judged import Judged, Runs

UNSURE = 0.05  # share by which the seconds of a step may be off, however well their measurements agree
UNKNOWN = 0.1  # the same where they were measured once


def in_time(
    judged: Judged,
    judge: Judge,
    lengths: Mapping[str, int],
    seconds: Mapping[str, float],
    precision: Mapping[str, float],
) -> Judged:
    """Returns final runs, as they are judged by the metric, as they are judged by the time to the target.

    Arguments:
        judged: by the metric, with the evaluations to the target, None for a run that diverged or did not reach it.
        judge: ``"time-to-target"`` or ``"seconds-to-target"``.
        lengths: the gradient evaluations of a run of each strategy.
        seconds: of a gradient evaluation of each strategy.
        precision: of these, see :func:`precision_of`.
    """
    per = seconds if judge == "seconds-to-target" else dict.fromkeys(judged.runs, 1)
    sign = -1 if judged.direction == "max" else 1
    ties = {name: sign * judged.typical(name) for name in judged.runs}
    return replace(
        judged,
        judge=judge,
        runs={name: _times(own, per[name]) for name, own in judged.runs.items()},
        direction="min",
        metric=UNITS[judge],
        horizon=max(lengths[name] * per[name] for name in judged.runs),
        precision=precision if judge == "seconds-to-target" else {},
        ties={name: math.inf if math.isnan(tie) else tie for name, tie in ties.items()},
    )


def _times(own: Runs, per: float) -> Runs:
    """Returns the times of runs; one that is known to have failed has none."""
    lost = [failed and x is not None for failed, x in zip(own.failed, own.scores, strict=True)]
    steps = [None if bad else s for bad, s in zip(lost, own.steps, strict=True)]
    return Runs([None if s is None else s * per for s in steps], [s is None for s in steps], steps)


def precision_of(timings: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Returns the share by which the least of several measured seconds may be off, for each strategy.

    A load on the machine makes measurements larger and none smaller, so the least is taken; by how much the middle one
    lies above it says how far it can be trusted, and 5 % is the least that is assumed.

    >>> precision_of({"a": [1.0, 1.25, 3.0], "b": [1.0, 1.0, 1.0], "c": [1.0]})
    {'a': 0.25, 'b': 0.05, 'c': 0.1}
    """
    return {
        name: max(UNSURE, median(found) / min(found) - 1) if len(found) > 1 else UNKNOWN
        for name, found in timings.items()
    }


def amount(time: float, unit: str) -> str:
    """Returns a time to read.

    >>> amount(1250.0, "evaluations"), amount(0.25, "seconds")
    ('1,250 evaluations', '0.25 s')
    """
    return in_words(time) if unit == "seconds" else f"{time:,.4g} {unit}" if time < 1000 else f"{time:,.0f} {unit}"


def reached(judged: Judged) -> str:
    """Returns how many runs of each strategy reached the target, how often they may, and after which time."""
    parts = []
    for name in sorted(judged.runs, key=lambda name: (time_of(judged, name).mean, -count(judged, name))):
        n, hits, time = len(judged.runs[name].scores), count(judged, name), time_of(judged, name)
        low, high = (100 * bound for bound in proportion(hits, n))
        share = (
            f"at least {low:.0f}" if hits == n else f"at most {high:.0f}" if not hits else f"{low:.0f} to {high:.0f}"
        )
        after = f", typically after {amount(time.mean, judged.metric)}" if math.isfinite(time.mean) else ""
        parts.append(f"{name} in {hits} of {n} runs (true rate {share} %){after}")
    return f"Reached the target, {judged.goal}: {'; '.join(parts)}."


def time_of(judged: Judged, name: str) -> Interval:
    """Returns the typical time of a strategy's runs, and its interval."""
    return median_time(judged.runs[name].scores)


def count(judged: Judged, name: str) -> int:
    """Returns how many of a strategy's runs reached the target."""
    return sum(not failed for failed in judged.runs[name].failed)


def refusal(judged: Judged, goal: str = "") -> str:
    """Returns why nothing can be said of any strategy; empty where something can.

    ``goal`` is the target in words, by default as it is judged.
    """
    times = {x for runs in judged.runs.values() for x in runs.scores}
    if not judged.goal:
        return "No verdict: no tuning trial ended, so that there is no target (give one with --target)."
    if times == {None}:
        return f"No verdict: no run reached {goal or judged.goal} (lower --target, or train for longer)."
    if len(times) == 1 < judged.seeds and len(judged.runs) > 1:
        return f"No verdict: all runs reached {goal or judged.goal} at the same point (set a harder --target)."
    return ""


def timing(judged: Judged) -> str:
    """Returns what the seconds are, and how far they can be trusted; empty where evaluations are judged."""
    if judged.judge != "seconds-to-target":
        return ""
    most = max(judged.precision.values(), default=UNKNOWN)
    return (
        "Seconds are the evaluations times the seconds of one, measured for each strategy alone on this machine, to "
        f"about {100 * most:.0f} %: less than that is not claimed."
    )
