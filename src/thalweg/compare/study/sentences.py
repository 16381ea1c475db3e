"""The verdict in sentences."""

import math
from collections.abc import Sequence
from statistics import fmean, variance

from scipy.special import ndtri

from thalweg.compare.statistics import proportion
from thalweg.compare.study import timed
from thalweg.compare.study.judged import Behind, Judged

POWER = 0.8  # with which the seeds that are named would tell two strategies apart
FAR = 1000  # seeds beyond which it is not said how many would decide


def details(
    judged: Judged,
    candidates: Sequence[str],
    behind: Sequence[Behind],
    alike: Sequence[Sequence[str]],
    fastest: str | None,
    margin: float,
    needed: int,
) -> list[str]:
    said = about_runs(judged) if judged.is_timed else []
    if len(candidates) > 1:
        said.append(f"Could be the best here: {', '.join(candidates)}. These runs cannot say which.")
    if alike:
        known = "; ".join(" and ".join(pair) for pair in alike)
        within = timed.amount(margin, judged.metric) if judged.is_timed else f"{margin:.2g} {judged.metric}"
        said.append(f"Equivalent within ±{within} (90 % interval of the difference): {known}.")
    if behind:
        said.append(f"Behind: {'; '.join(_lost(one, judged) for one in behind)}.")
    if fastest:
        said.append(f"Of those that could be the best, {fastest} reaches {judged.goal} in the fewest steps, by test.")
    if judged.ended:
        said.append(judged.ended)
    said += impossible(judged) + ([] if judged.is_timed else about_runs(judged))
    if judged.seeds >= needed:
        said.append(
            "Each run had its own tuning, so this includes the luck of tuning."
            if judged.is_tuned_apart
            else "All runs of a strategy share one tuning, so this leaves out the luck of tuning."
        )
    if len(candidates) > 1 and judged.seeds >= needed and (more := _more(judged, candidates)):
        said.append(more)
    return said


def about_runs(judged: Judged) -> list[str]:
    """Returns how many runs failed; or how many reached the target, when, and how that was measured."""
    if not judged.is_timed:
        return [failures(judged)]
    return [line for line in (timed.reached(judged), timed.timing(judged)) if line]


def _lost(one: Behind, judged: Judged) -> str:
    def shown(size: float) -> str:
        return timed.amount(size, judged.metric) if judged.is_timed else f"{size:.2g}"

    size = f", typically by {shown(one.typically)}" if math.isfinite(one.typically) else ""
    is_told = size and one.at_least >= one.typically / 100  # less is rounding
    least = f" and by at least {shown(one.at_least)}" if is_told else ""
    return f"{one.name}, which lost to {one.beaten_by} on {one.lost} of {one.runs} runs{size}{least}"


def impossible(judged: Judged) -> list[str]:
    """Returns a sentence of the strategies that could not run, and why; none where all could."""
    names = [f"{name}, which {does}" for name, does in judged.impossible.items()]
    return [f"Could not run: {'; '.join(names)}."] if names else []


def failures(judged: Judged) -> str:
    """Returns which strategies failed, how often, and how often they may."""
    counts = {name: sum(runs.failed) for name, runs in judged.runs.items()}
    parts = []
    for name, count in counts.items():
        if count:
            n = len(judged.runs[name].failed)
            low, high = proportion(count, n)
            parts.append(f"{name} {count} of {n} (true rate {100 * low:.0f} to {100 * high:.0f} %)")
    fewest = min((len(judged.runs[name].failed) for name, count in counts.items() if not count), default=1)
    most = f"at most {100 * proportion(0, fewest)[1]:.0f} %"
    if not parts:
        return f"Failed runs: none (true rate {most})."
    others = f"; the others none ({most})" if len(parts) < len(counts) else ""
    return f"Failed runs: {', '.join(parts)}{others}."


def _more(judged: Judged, candidates: Sequence[str]) -> str:
    """Returns what would tell the first candidate from another one, if they are what they seem."""
    best, counts = candidates[0], dict[str, float]()
    for other in candidates[1:]:
        gains = judged.relative_gains(best, other)
        if len(gains) < 2:
            continue
        mean, spread = fmean(gains), variance(gains)
        if mean > 0 and judged.is_hidden(gains):
            counts[other] = math.inf
        elif mean > 0:
            quantiles = float(ndtri(POWER) - ndtri(judged.level))
            counts[other] = math.ceil(min(FAR + 1.0, quantiles**2 * spread / mean**2))
    near = {other: n for other, n in counts.items() if judged.seeds < n <= FAR}
    if near:
        other = min(near, key=lambda name: near[name])
        count = f"{near[other]:.0f} seeds (--seeds)"
        return f"About {count} would separate {best} from {other}, if they differ as these runs do."
    if math.inf in counts.values():
        return (
            "The luck of tuning hides more than that of seeds: more trials (--trials) would help, more seeds would not."
        )
    if len({sum(judged.runs[name].failed) for name in candidates}) > 1:
        fails = "misses the target" if judged.is_timed else "fails"
        more = f"More seeds would tell which of them {fails} more often"
        return f"{more}: what else they differ by is less than their spread."
    return f"More seeds are unlikely to separate {best} from the others: they differ by much less than their spread."
