"""The answer to a gate in sentences."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.compare.gate.judgement import Judgement
from thalweg.compare.sequential import LEAST

MOST = 1000  # seeds beyond which it is not said how many would decide
RATES = (
    "Whenever one stops, a change that does nothing is called better in at most 4 % of gates, and worse in at most 1 %."
)


def sentence(found: Judgement, metric: str, direction: str, within: float | None) -> str:
    """Returns the answer as one sentence.

    >>> from thalweg.compare.statistics import Interval
    >>> some = Judgement("better", Interval(0.0123, 0.004, 0.0312), 6, 6, ([], []), 1.0)
    >>> sentence(some, "accuracy", "max", None)
    "Better: the candidate's test accuracy is higher by 0.0123 (0.004 to 0.0312), over 6 paired runs."
    """
    runs = f"{found.trained} paired runs"
    if found.identical:
        return f"Equal: both sides ran alike, bit for bit, under {found.pairs} seeds, so that the change does nothing."
    if found.by_failures:
        fewer = "more" if found.answer == "worse" else "less"
        one, two = found.failed
        return (
            f"{found.answer.capitalize()}: the candidate fails {fewer} often, in {two} of {found.pairs} runs; "
            f"the baseline in {one}."
        )
    if found.answer == "equal":
        low, high = _shown(found, direction)
        return f"Equal within ±{within:g}: the difference of the test {metric} is {low} to {high}, over {runs}."
    if found.answer == "not decided":
        if not math.isfinite(found.gain.low):
            return f"Not decided: it takes at least {LEAST} paired runs that trained, and there are {found.trained}."
        low, high = _shown(found, direction)
        return f"Not decided: the candidate's test {metric} differs by {low} to {high}, over {runs}."
    better = found.answer == "better"
    word = "higher" if better == (direction == "max") else "lower"
    mean, *ends = (abs(v) for v in found.gain)
    least, most = sorted(ends)
    size = f"{mean:.3g} ({least:.3g} to {most:.3g})"
    return f"{found.answer.capitalize()}: the candidate's test {metric} is {word} by {size}, over {runs}."


def details(found: Judgement, within: float | None, ended_by: str, cap: int | None) -> list[str]:
    """Returns the sentences after it: failures, the margin, what more seeds would do, how often a gate is wrong."""
    said = []
    one, two = found.failed
    if (one or two) and not found.by_failures:
        said.append(f"Failed runs: {two} of {found.pairs} of the candidate, {one} of the baseline.")
    if found.untaught:
        runs = f"{found.untaught} run{'s' * (found.untaught > 1)}"
        said.append(f"{runs} failed by learning nothing, less than a tenth of the way from the untrained model.")
    if one != two and found.answer == "not decided":
        name = "candidate" if two > one else "baseline"
        said.append(f"While the {name} fails more often, the scores of the other runs do not count in its favour.")
    if within is not None and found.answer == "better" and found.gain.low < within:
        said.append(f"It may be better by less than {within:g}.")
    if found.answer == "not decided" and math.isfinite(found.gain.low):
        said += [more] if found.gain.low <= 0 <= found.gain.high and (more := _more(found, within)) else []
    if ended_by == "cap" and found.answer == "not decided":
        said.append(f"The cap of {cap} seeds is reached; the same command with a larger --seeds goes on from here.")
    if not found.identical:
        said.append(RATES)
    return said


def _shown(found: Judgement, direction: str) -> tuple[str, str]:
    """Returns the bounds of candidate − baseline in the metric's own units."""
    low, high = found.gain.low, found.gain.high
    low, high = (low, high) if direction == "max" else (-high, -low)
    return f"{low:+.3g}", f"{high:+.3g}"


def _more(found: Judgement, within: float | None) -> str:
    """Returns how many seeds would decide, if the difference is what it seems."""
    n, mean = found.trained, found.gain.mean
    half = min(mean - found.gain.low, found.gain.high - mean)
    deviation = half * math.sqrt(n)  # times the critical value, which changes slowly
    wanted = [abs(mean)] + ([within - abs(mean)] if within is not None and abs(mean) < within else [])
    least = max(wanted)
    needed = math.ceil((deviation / least) ** 2) if least > deviation / MOST else MOST + 1
    if needed > MOST:
        return "The difference, if there is one, is too small beside the luck of a seed to be found by more seeds."
    return f"If the difference is as it seems, about {max(needed, n + 1)} seeds would decide." if needed > n else ""


def unlike(sides: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns what the sides do not have in common but need not, in lines: lengths of runs, test data."""
    one, two = sides["baseline"], sides["candidate"]
    said = []
    if one["steps"] != two["steps"]:
        said.append(f"the baseline trains {one['steps']:,} steps and the candidate {two['steps']:,}")
    sizes: Sequence[Any] = [one.get("test_size"), two.get("test_size")]
    if None not in sizes and sizes[0] != sizes[1]:
        said.append(
            f"the sides are tested on different data, {sizes[0]:,} and {sizes[1]:,} examples: a difference may come "
            "from the tests alone"
        )
    elif one.get("test_targets") != two.get("test_targets"):
        said.append(
            "the sides are tested on different data (their targets differ): a difference may come from the tests alone"
        )
    elif one.get("test_digest") != two.get("test_digest"):
        said.append(
            "the sides are tested on different inputs with the same targets: make sure that the change is to how "
            "inputs are prepared"
        )
    return said
