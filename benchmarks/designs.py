"""Designs of a tuned comparison, played on banks of runs: that of thalweg, the one before it, and others of equal cost.

All play many roots at once. ``thalweg`` is held to the library by :mod:`benchmarks.whole_studies`. Optuna's
WilcoxonPruner, which compares runs of two configurations by ranks while one is running, prunes and claims nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from math import isfinite
from statistics import NormalDist, fmean, median, variance

import numpy as np

from benchmarks.bank import FINAL, Draws, Landscape, Numbers, Whole, halves
from benchmarks.pairs import paired_difference
from benchmarks.tuning import at_seeds, best_mean, chosen, column, ranked, tuned
from thalweg.compare.ranges import EDGE
from thalweg.compare.study.judged import Judged

BEFORE = 16  # configurations of the protocol before, beside the default one


@dataclass(frozen=True)
class Played:
    """What a design came to: positions in the bank, over roots × final runs, their seeds, and what is recommended."""

    at: Whole
    seeds: Whole
    recommended: Whole


def middle_of(choices: Numbers) -> Whole:
    """Returns the position of each row's choice that is nearest to all others."""
    apart = np.abs(choices[:, :, None] - choices[:, None]).sum(axis=2)
    found: Whole = apart.round(9).argmin(axis=1)
    return found


def windowed(
    land: Landscape, draws: Draws, shift: float, trials: int = 12, held_back: int = 4, keep: int = 8
) -> Played:
    """The design of thalweg: a window around the best of the first rung, and the choices of random halves."""
    state, split = tuned(land, draws, shift, trials, held_back, keep), halves(draws.roots, trials + 1)
    found = np.stack([chosen(state, split[:, run]) for run in range(FINAL)], axis=1)
    at = land.nearest(found)
    return Played(at, draws.final, np.asarray(column(at, middle_of(found)), dtype=np.intp))


def former(land: Landscape, draws: Draws, shift: float, keep: int = 6) -> Played:
    """The protocol before: one seed of tuning, the best of 17, and all final runs with that one choice."""
    lr, seeds = _widened(land, draws, shift, np.zeros(BEFORE + 1, dtype=np.intp))
    metric, _ = _to_the_end(land, lr, seeds, keep)
    at = land.nearest(np.asarray(column(lr, metric.argmin(axis=1)), dtype=float))
    return Played(np.repeat(at[:, None], FINAL, axis=1), draws.final, at)


def near_best(land: Landscape, draws: Draws, shift: float, keep: int = 6) -> Played:
    """Two seeds of tuning in turn; of each half, the middle of those within two standard deviations of its best.

    The deviation is that of the bank, which a study would have to estimate.
    """
    lr, seeds = _widened(land, draws, shift, np.arange(BEFORE + 1) % 2)
    metric, rung = _to_the_end(land, lr, seeds, keep)
    spread = np.array([np.std(ends[np.isfinite(ends)]) if np.isfinite(ends).any() else 0.0 for ends in land.end[0]])
    reach = 2 * spread[land.nearest(np.asarray(column(lr, metric.argmin(axis=1)), dtype=float))]
    split, rows, choices = halves(draws.roots, BEFORE + 1), np.arange(len(lr)), []
    for run in range(FINAL):
        own, early = np.where(split[:, run], metric, np.inf), np.where(split[:, run], rung, np.inf)
        near = (own <= own.min(axis=1)[:, None] + reach[:, None]) & np.isfinite(own)
        order = np.where(near, lr, np.inf).argsort(axis=1)
        chosen = order[rows, np.maximum(0, (near.sum(axis=1) - 1) // 2)]
        choices.append(lr[rows, np.where(near.any(axis=1), chosen, early.argmin(axis=1))])
    found = np.stack(choices, axis=1)
    at = land.nearest(found)
    return Played(at, draws.final, np.asarray(column(at, middle_of(found)), dtype=np.intp))


def _widened(land: Landscape, draws: Draws, shift: float, which: Whole) -> tuple[Numbers, Whole]:
    """Returns learning rates and seeds of the protocol before, which widens a range whose edge is best by a decade."""
    low, high = (end + shift for end in land.range)
    u, held = draws.points[:, :BEFORE], BEFORE // 4
    seeds = draws.tuning[:, which]
    lr = low + (high - low) * np.insert(u, 0, (np.log10(land.runs.default) + shift - low) / (high - low), axis=1)
    metric, _ = at_seeds(land, land.rung, lr[:, :-held], seeds[:, :-held])
    best = (np.asarray(column(lr, metric.argmin(axis=1)), dtype=float) - low) / (high - low)
    sound = np.isfinite(metric).any(axis=1)
    lr[:, -held:] = np.where((sound & (best < EDGE))[:, None], low - 1 + u[:, -held:], lr[:, -held:])
    lr[:, -held:] = np.where((sound & (best > 1 - EDGE))[:, None], high + u[:, -held:], lr[:, -held:])
    return lr, seeds


def _to_the_end(land: Landscape, lr: Numbers, seeds: Whole, keep: int) -> tuple[Numbers, Numbers]:
    """Returns the metric at the end, infinite where a run is not kept or failed, and that of the first rung."""
    rung, loss = at_seeds(land, land.rung, lr, seeds)
    kept = np.zeros_like(rung, dtype=bool)
    np.put_along_axis(kept, ranked(rung, loss, ~kept)[:, :keep], True, axis=1)
    return np.where(kept & np.isfinite(rung), at_seeds(land, land.end, lr, seeds)[0], np.inf), rung


def replicates(land: Landscape, draws: Draws, shift: float, count: int = 5, each: int = 6) -> Played:
    """Independent tunings, each of the default and five points, judged at a third of the steps; two final runs each."""
    low, high = (end + shift for end in land.range)
    start, choices = np.log10(land.runs.default) + shift, []
    for i in range(count):
        u = draws.points[:, i * (each - 1) : (i + 1) * (each - 1)]
        lr = low + (high - low) * np.insert(u, 0, (start - low) / (high - low), axis=1)
        metric, loss = at_seeds(land, land.rung, lr, draws.tuning[:, i * each : (i + 1) * each])
        mean, none = best_mean(metric, loss, lr, np.ones_like(metric, dtype=bool))
        choices.append(np.where(none, start, mean))
    found = np.stack(choices, axis=1)
    at = land.nearest(found)
    recommended = np.asarray(column(at, middle_of(found)), dtype=np.intp)
    return Played(np.repeat(at, FINAL // count, axis=1), draws.final, recommended)


def minima(land: Landscape, draws: Draws, shift: float, studies: int = 5, each: int = 4) -> Played:
    """AlgoPerf's: five studies of four whole runs; of each, the run that is best on validation stands for it."""
    low, high = (end + shift for end in land.range)
    at = land.nearest(low + (high - low) * draws.points[:, : studies * each])
    seeds = draws.tuning[:, : studies * each]
    best = land.end[0][at, seeds].reshape(len(at), studies, each).argmin(axis=2)
    chosen = best + each * np.arange(studies)
    at, seeds = np.take_along_axis(at, chosen, 1), np.take_along_axis(seeds, chosen, 1)
    return Played(at, seeds, np.sort(at, axis=1)[:, studies // 2])


def steps_to_target(sign: float, played: Mapping[str, tuple[Landscape, Played]]) -> dict[str, list[list[int | None]]]:
    """Returns the steps of each final run to the target, over roots, as ``thalweg.compare`` counts them."""
    curves = {n: sign * land.runs.valid[p.at, p.seeds] for n, (land, p) in played.items()}
    sound = {n: np.isfinite(land.end[0][p.at, p.seeds]).all(axis=1) for n, (land, p) in played.items()}
    ends = np.array([np.where(sound[n], c[:, :, -1].mean(axis=1), np.inf) for n, c in curves.items()]).min(axis=0)
    starts = np.array([np.where(sound[n], c[:, :, 0].mean(axis=1), -np.inf) for n, c in curves.items()]).max(axis=0)
    with np.errstate(invalid="ignore"):
        target = np.where(np.isfinite(ends), starts + 0.95 * (ends - starts), -np.inf)
    found = {}
    for n, curve in curves.items():
        met = curve <= target[:, None, None]
        first = np.where(met.any(axis=2), played[n][0].runs.points.astype(int)[met.argmax(axis=2)], -1)
        found[n] = [[None if s < 0 else s for s in row] for row in first.tolist()]
    return found


def _known(judged: Judged, *names: str) -> Iterator[list[float]]:
    """Yields scores of which higher is better, the worst of all in place of those that diverged."""
    sign = 1 if judged.direction == "max" else -1
    scores = [[None if x is None else sign * x for x in judged.runs[name].scores] for name in names]
    worst = min((x for own in scores for x in own if x is not None), default=0.0)
    for own in scores:
        yield [worst if x is None else x for x in own]


def by_library(judged: Judged, a: str, b: str) -> bool:
    """Says whether ``a`` is better as the library has it, whose tests need more than half of the runs won."""
    gains = judged.gains(a, b)
    return 2 * sum(g > 0 for g in gains) > len(gains) and judged.beats(a, b)


def by_rank(judged: Judged, a: str, b: str) -> bool:
    """Says whether the median of ``a`` is better."""
    one, two = map(median, _known(judged, a, b))
    return one > two


def by_replicates(judged: Judged, a: str, b: str) -> bool:
    """Says whether ``a`` is better by the t test over independent tunings, of two runs each."""
    gains = judged.gains(a, b)
    most = max((abs(g) for g in gains if isfinite(g)), default=0.0) or 1.0
    gains = [min(max(g, -most), most) for g in gains]
    means = [fmean(pair) for pair in zip(gains[::2], gains[1::2], strict=True)]
    return fmean(means) > 0 and paired_difference(means, [0.0] * len(means)).p / 2 <= judged.level


def by_z(judged: Judged, a: str, b: str) -> bool:
    """Says whether ``a`` is better by a one-sided z test at 0.01, as the records of modded-nanogpt are judged."""
    one, two = _known(judged, a, b)
    error = ((variance(one) + variance(two)) / len(one)) ** 0.5
    return fmean(one) - fmean(two) > NormalDist().inv_cdf(0.99) * error


def by_intervals(judged: Judged, a: str, b: str) -> bool:
    """Says whether bootstrap intervals of the interquartile mean, as rliable draws them, lie apart."""
    one, two = _known(judged, a, b)
    return _interquartile(tuple(one))[0] > _interquartile(tuple(two))[1]


@cache
def _resampled(count: int, runs: int) -> Whole:
    drawn: Whole = np.random.default_rng(0).integers(0, runs, (count, runs))
    return drawn


def _interquartile(scores: tuple[float, ...]) -> tuple[float, float]:
    """Returns the 95 % percentile interval of the interquartile mean."""
    cut = len(scores) // 4
    means = np.sort(np.array(scores)[_resampled(500, len(scores))], axis=1)[:, cut : len(scores) - cut].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True)
class Design:
    """A design, and how its runs are judged.

    Attributes:
        name: of the design.
        play: from a landscape, draws and a shift of the range in decades to what it came to.
        beats: whether one strategy is better than another.
        halves: whether runs 2k and 2k + 1 train with the choices of two halves.
        clear: whether a gain must also be twice its standard error.
        cost: runs of a strategy, in whole runs.
    """

    name: str
    play: Callable[[Landscape, Draws, float], Played]
    beats: Callable[[Judged, str, str], bool] = by_library
    halves: bool = False
    clear: bool = False
    cost: float = 9.67 + FINAL


ADOPTED = Design("thalweg", windowed, halves=True, clear=True)
DESIGNS = (
    ADOPTED,
    Design("thalweg, rank test alone", windowed, halves=True),
    Design("thalweg, no window", partial(windowed, held_back=0), halves=True, clear=True),
    Design("one choice of one tuning (before)", former),
    Design("middle of the near-best", near_best, halves=True),
    Design("independent replicates", replicates, by_replicates, cost=20),
)
ANCHORS = (
    Design("AlgoPerf: median of minima, rank only", minima, by_rank, cost=20),
    Design("rliable: interquartile mean, one choice", former, by_intervals),
    Design("modded-nanogpt: z test at 0.01, one choice", former, by_z),
)
