"""Is the verdict on the time to a target true? The whole procedure, tuned by that time, on the banks of real runs.

The same roots as in *truth* draw the same studies, which tune for ``--judge time-to-target`` here. The target lies 95 %
of the way from the first point of the curves to the best strategy's end in the bank, both of its best learning rate, or
less far, so that more or fewer runs reach it; it is the same for all roots, as if it had been given. The runs are
judged by the library. A claim, that a strategy is behind, is false where it contradicts the order of the mean times
over all roots, of which one that is not reached counts as the length of a run. In brackets is the worst strategy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.bank import TASKS, Bank, Draws, Landscape, Numbers, judged
from benchmarks.designs import Played, windowed
from benchmarks.measure import table
from thalweg.compare.statistics import median_time
from thalweg.compare.study.judged import Judged
from thalweg.compare.study.timed import in_time

ROOTS = 200
SHIFT = 0.2  # decades
SHARES = (0.95, 0.8)  # of the way, at which the target lies
SLOWER = 1.5  # times as long as a strategy takes that is to be found
TRAINS = 0.5  # share of fresh runs that fail, below which a strategy has a learning rate that trains

Times = list[list[int | None]]  # over roots × final runs


def measure(names: Sequence[str] = tuple(TASKS), roots: int = ROOTS) -> dict[str, Any]:
    """Returns the rates of each bank at each target."""
    here, far = Draws.of(range(roots)), Draws.of(range(roots, 2 * roots))
    there = replace(here, points=far.points, tuning=far.tuning)
    found: dict[str, Any] = {}
    for name in names:
        bank = Bank.of(name)
        for share in SHARES:
            key = f"{name}, {100 * share:.0f} %"
            found[key] = Simulation(bank, share, here, there).rates()
            print(key, found[key], flush=True)
    return {"roots": roots, "tasks": found}


@dataclass(frozen=True)
class Timed:
    """The bank of a strategy by its times to a target.

    Attributes:
        land: scores by which tuning chooses: the place of the first point that meets the target, or beyond all places
            by the metric.
        times: gradient evaluations to the target, over learning rates × seeds; infinite where it is not reached.
    """

    land: Landscape
    times: Numbers


def timed(land: Landscape, sign: float, target: float) -> Timed:
    """Returns the bank of a strategy by its times to a target, of ``sign`` times the metric."""
    curve, points = sign * land.runs.valid, land.runs.points
    sound = np.isfinite(land.end[0])
    met = curve <= target
    times = np.where(met.any(axis=2) & sound & ~land.failed, points[met.argmax(axis=2)], np.inf)
    last = int(np.abs(points - points[-1] / 3).argmin())

    def scores(of: tuple[Numbers, Numbers], until: int) -> tuple[Numbers, Numbers]:
        reached = np.isfinite(times) & (times <= points[until])
        beyond = points[-1] * (2 + np.arctan(of[0]) / np.pi)  # in the order of the metric
        return np.where(np.isfinite(of[0]), np.where(reached, times, beyond), np.inf), np.where(reached, of[0], of[1])

    return Timed(replace(land, rung=scores(land.rung, last), end=scores(land.end, -1)), times)


class Simulation:
    """Studies on a bank that are judged by the time to a target, one for each root.

    Arguments:
        bank: of the task.
        share: of the way from the start of the curves to the best end, at which the target lies.
        here: what the roots draw.
        there: the same with independent tuning.
    """

    def __init__(self, bank: Bank, share: float, here: Draws, there: Draws) -> None:
        self.bank, self.final, lands = bank, here.final, bank.strategies
        self.trains = [n for n, land in lands.items() if land.fails.min() < TRAINS]
        worst = {n: np.nan_to_num(bank.sign * land.runs.valid[:, :, [0, -1]], nan=np.inf) for n, land in lands.items()}
        ends = {n: np.median(values, axis=1) for n, values in worst.items()}
        best = {n: e[e[:, 1].argmin()] for n, e in ends.items()}
        start, end = max(e[0] for e in best.values()), min(e[1] for e in best.values())
        self.length = int(max(land.runs.points[-1] for land in lands.values()))
        self.banks = {n: timed(land, bank.sign, start + share * (end - start)) for n, land in lands.items()}
        self.times = {n: self._times(n, windowed(b.land, here, 0.0)) for n, b in self.banks.items()}
        self.again = {n: self._times(n, windowed(b.land, there, 0.0)) for n, b in self.banks.items()}
        self.shifted = {n: self._times(n, windowed(b.land, here, SHIFT)) for n, b in self.banks.items()}

    def _times(self, name: str, played: Played) -> Times:
        found = self.banks[name].times[played.at, played.seeds]
        return [[int(t) if np.isfinite(t) else None for t in row] for row in found.tolist()]

    def judged(self, times: Mapping[str, Sequence[int | None]]) -> Judged:
        """Returns the runs of a study as the library judges them."""
        good = dict.fromkeys(times, [0.0] * len(next(iter(times.values()))))
        plainly = judged(good, "max", [-1.0], np.nan, steps=dict(times), goal="the target")
        return in_time(plainly, "time-to-target", dict.fromkeys(times, self.length), {}, {})

    def rates(self) -> dict[str, Any]:
        """Returns what is measured."""
        names, roots = list(self.times), range(len(self.final))
        studies = [self.judged({n: t[i] for n, t in self.times.items()}) for i in roots]
        beaten = np.array([[[a != b and j.beats(a, b) for b in names] for a in names] for j in studies])
        means = [fmean(self.length if t is None else t for own in self.times[n] for t in own) for n in names]
        false = beaten & (np.array(means)[:, None] >= np.array(means)[None])
        half = len(beaten) // 2
        behind = np.asarray(beaten.any(axis=1))
        one, two = behind[:half], behind[half : 2 * half]
        claims, pairs = max(1, int(one.sum() + two.sum())), max(1, int(beaten[: 2 * half].sum()))
        return {
            "null": self._told_apart(self.again),
            "null shifted": self._told_apart(self.shifted),
            "slower": self._slower(),
            "covered": self._covered(),
            "reached": fmean(t is not None for n in self.trains for own in self.times[n] for t in own),
            "false": float(false.any(axis=(1, 2)).mean()),
            "again": 2 * int((one & two).sum()) / claims,
            "reversed": 2 * int((beaten[:half] & beaten[half : 2 * half].transpose(0, 2, 1)).sum()) / pairs,
            "could be best": float((~behind).mean()),
        }

    def _told_apart(self, other: Mapping[str, Times]) -> dict[str, float]:
        rates = []
        for name in self.trains:
            twins = [self.judged({"a": a, "b": b}) for a, b in zip(self.times[name], other[name], strict=True)]
            rates.append(fmean(j.beats("a", "b") or j.beats("b", "a") for j in twins))
        return {"mean": fmean(rates), "worst": max(rates)}

    def _slower(self) -> dict[str, float]:
        """Returns how often a strategy is found that takes longer, of those that reach the target in most runs."""
        rates = []
        for name in self.trains:
            reached = [t for own in self.times[name] for t in own if t is not None]
            if len(reached) < 0.9 * sum(map(len, self.times[name])):
                continue
            slow = [[_later(t, self.length) for t in own] for own in self.again[name]]
            twins = [self.judged({"a": a, "b": b}) for a, b in zip(self.times[name], slow, strict=True)]
            rates.append(fmean(j.beats("a", "b") for j in twins))
        return {"mean": fmean(rates), "worst": min(rates)} if rates else {"mean": float("nan"), "worst": float("nan")}

    def _covered(self) -> dict[str, float]:
        """Returns how often the interval of the median holds the median over all roots."""
        rates = []
        for name in self.trains:
            truth = median_time([t for own in self.times[name] for t in own]).mean
            found = [median_time(own) for own in self.times[name]]
            rates.append(fmean(f.low <= truth <= f.high for f in found))
        return {"mean": fmean(rates), "worst": min(rates)}


def _later(time: int | None, length: int) -> int | None:
    return None if time is None or SLOWER * time > length else round(SLOWER * time)


ROWS = (
    ("one strategy under two names, tuned at two roots: one called better", "null", "≤ 5 %"),
    ("the same at one root, its range shifted by a fifth of a decade", "null shifted", "≤ 5 %"),
    ("takes 1.5 times as long: found", "slower", "≥ 80 %"),
    ("95 % interval of the median covers that over roots", "covered", "92 to 98 %"),
    ("runs that reach the target", "reached", ""),
    ("studies with a false claim", "false", "≤ 5 %"),
    ("a strategy behind is behind at another root", "again", "≥ 70 %"),
    ("a claim is reversed at another root", "reversed", "0"),
    ("strategies that could be the best", "could be best", ""),
)


def show(found: dict[str, Any]) -> str:
    """Returns the table."""
    tasks = found["tasks"]
    rows = [[text, goal, *(_rate(one[key]) for one in tasks.values())] for text, key, goal in ROWS]
    return f"12 trials and 10 seeds, at {found['roots']} root seeds a task:\n\n{table(['', 'goal', *tasks], rows)}"


def _rate(value: Any) -> str:
    if isinstance(value, dict):
        return "–" if value["mean"] != value["mean"] else f"{100 * value['mean']:.1f}% ({100 * value['worst']:.1f}%)"
    return f"{100 * value:.1f}%"
