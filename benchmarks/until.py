"""More seeds, or more trials too? What each batch of ``--until decided`` should add, on the banks of real runs.

Fresh seeds leave the luck of tuning as it is, so a batch could spend a part of its gradient evaluations on new
configurations, after which the choices of its final runs come from random halves of all configurations so far; former
final runs stay. Every way to spend a batch is played at the same cost, 10 whole runs of a strategy within 5 %, and
judged by the library at four looks; the last way costs twice as much and is judged twice. A strategy is compared with
itself, tuned at another root on the same final seeds: as it is (one called better is an error), and with one of the two
made worse (found is right). "Found" is by a look or before. A shift of 1 standard deviation is that of a tuned run, the
same for all ways.

Of a bank's 40 seeds, 12 are for tuning and 28 for final runs. The last look of seeds alone therefore sees 12 seeds
twice, which makes its errors as measured too many, and its claims too.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.bank import SEEDS, TASKS, Bank, Draws, Landscape, Whole, judged
from benchmarks.designs import by_library
from benchmarks.measure import table
from benchmarks.tuning import Tuned, chosen, trained, tuned
from thalweg.compare.design import LOOKS, WINDOW, half, sobol
from thalweg.compare.statistics import typical
from thalweg.compare.study.judged import Judged
from thalweg.tensors import derive_seed

ROOTS = 100
FIRST, TRIALS = 10, 12
FOR_TUNING = 12  # seeds of a bank
TRAINS = 0.5  # share of fresh runs that fail, below which a strategy has a learning rate that trains
SIZES = (0.5, 1.0, 2.0)  # standard deviations of a run by which one is made worse
MOST = 64  # configurations, and seeds of each kind, that are drawn for a root

Scores = list[list[float | None]]


@dataclass(frozen=True)
class Batch:
    """What a batch adds to a strategy.

    Attributes:
        name: of the way.
        trials: new configurations, of which three fifths go on from a third of the steps to the end.
        runs: new final runs.
        near: whether new configurations are drawn from a window around the best so far; else from the whole range.
        apart: whether the new configurations are a whole tuning, whose halves alone make the choices of the batch.
    """

    name: str
    trials: int
    runs: int
    near: bool = False
    apart: bool = False

    @property
    def promoted(self) -> int:
        """New configurations that go on to the end."""
        return math.ceil(0.6 * self.trials)

    @property
    def looks(self) -> int:
        """How often a study is judged; half as often where a batch costs twice as much."""
        return LOOKS // 2 if self.apart else LOOKS

    @property
    def cost(self) -> float:
        """In whole runs."""
        return self.trials / 3 + self.promoted * 2 / 3 + self.runs


WAYS = (
    Batch("10 runs", 0, 10),
    Batch("6 runs, 5 trials of the whole range", 5, 6),
    Batch("6 runs, 5 trials near the best", 5, 6, near=True),
    Batch("4 runs, 8 trials of the whole range", 8, 4),
    Batch("4 runs, 8 trials near the best", 8, 4, near=True),
    Batch("10 runs of a tuning of their own, two looks", TRIALS + 1, FIRST, apart=True),
)


def measure(names: Sequence[str] = tuple(TASKS), roots: int = ROOTS) -> dict[str, Any]:
    """Returns the rates of each way on each bank."""
    here, there = draws(range(roots)), draws(range(roots, 2 * roots))
    there = replace(there, roots=here.roots, final=here.final)
    found: dict[str, Any] = {}
    for name in names:
        bank = Bank.of(name)
        found[name] = {}
        sizes: dict[str, float] = {}  # those of the first way
        for way in WAYS:
            found[name][way.name], sizes = _rates(bank, way, here, there, sizes)
            print(name, way.name, found[name][way.name], flush=True)
    return {"roots": roots, "costs": {way.name: way.cost for way in WAYS}, "tasks": found}


def draws(roots: range) -> Draws:
    """Returns what the roots draw for four looks; of the final seeds none comes again before all have come."""
    final = [np.random.default_rng(derive_seed(r, "final")).permutation(SEEDS - FOR_TUNING) for r in roots]
    tuning = [np.random.default_rng(derive_seed(r, "tuning")).integers(0, FOR_TUNING, MOST) for r in roots]
    points = np.stack([sobol(MOST, r)[:, 0] for r in roots])
    twice = np.tile(np.array(final), (1, 2))
    return Draws(roots, points, np.array(tuning), FOR_TUNING + twice)


def played(land: Landscape, drawn: Draws, way: Batch) -> Iterator[Whole]:
    """Yields the positions in the bank of the final runs of each look, over roots × runs."""
    state = tuned(land, drawn, 0.0, TRIALS)
    yield _at(land, drawn, state, range(FIRST))
    for look in range(1, way.looks):
        if way.apart:
            at = look * (TRIALS + 1)
            own = replace(drawn, points=drawn.points[:, at:], tuning=drawn.tuning[:, at:])
            state = tuned(land, own, 0.0, TRIALS)
        elif way.trials:
            state = _added(land, drawn, state, way)
        start = FIRST + (look - 1) * way.runs
        yield _at(land, drawn, state, range(start, start + way.runs))


def _at(land: Landscape, drawn: Draws, state: Tuned, runs: range) -> Whole:
    count = state.lr.shape[1]
    found = []
    for run in runs:
        split = np.zeros((len(drawn.roots), count), dtype=bool)
        for i, root in enumerate(drawn.roots):
            split[i, half(count, run, root)] = True
        found.append(chosen(state, split))
    return land.nearest(np.stack(found, axis=1))


def _added(land: Landscape, drawn: Draws, state: Tuned, way: Batch) -> Tuned:
    """Returns the trials with those of one more batch."""
    low, high = land.range
    at = slice(state.lr.shape[1], state.lr.shape[1] + way.trials)
    u = drawn.points[:, at]
    lr = low + (high - low) * u
    if way.near:
        centre = chosen(state, np.ones_like(state.ended))
        lr = centre[:, None] + WINDOW * (high - low) * (2 * u - 1)
    new = trained(land, lr, drawn.tuning[:, at], way.promoted, state.start)
    both = {f: np.concatenate([getattr(t, f) for t in (state, new)], axis=1) for f in ("lr", "metric", "loss", "ended")}
    return Tuned(**both, start=state.start)


class Simulation:
    """Studies on a bank that add a batch at each look, one for each root.

    Arguments:
        bank: of the task.
        way: to spend a batch.
        here: what the roots draw.
        there: the same with independent tuning.
    """

    def __init__(self, bank: Bank, way: Batch, here: Draws, there: Draws) -> None:
        self.bank, self.way, self.final = bank, way, here.final
        self.runs = [FIRST + way.runs * look for look in range(way.looks)]
        self.direction = "max" if bank.sign < 0 else "min"
        self.names = [n for n, land in bank.strategies.items() if land.fails.min() < TRAINS]
        self.scores, self.again = ({n: self._scores(n, drawn, way) for n in bank.strategies} for drawn in (here, there))
        self.one_run = {
            n: float(np.std([x for own in s for x in own[:FIRST] if x is not None] or [0.0]))
            for n, s in self.scores.items()
        }

    def _scores(self, name: str, drawn: Draws, way: Batch) -> Scores:
        land = self.bank.strategies[name]
        at = np.concatenate(list(played(land, drawn, way)), axis=1)
        test = land.runs.test[at, self.final[:, : at.shape[1]]]
        return [[x if math.isfinite(x) else None for x in row] for row in test.tolist()]

    def judged(self, root: int, scores: Mapping[str, Sequence[float | None]], runs: int) -> Judged:
        """Returns the first so many runs of a root as the library judges them."""
        own = self.bank.untrained[self.final[root, :runs]].tolist()
        some = {name: s[:runs] for name, s in scores.items()}
        return replace(judged(some, self.direction, own, self.bank.constant), looks=self.way.looks)

    def found(self, name: str, worse: float, both: bool = False) -> list[float]:
        """Returns how often, by each look, a strategy beats itself that was tuned apart and made worse."""
        first = []
        for root in range(len(self.final)):
            twin = [None if x is None else x + self.bank.sign * worse for x in self.again[name][root]]
            study = {"a": self.scores[name][root], "b": twin}
            looks = (self.judged(root, study, runs) for runs in self.runs)
            said = (i for i, j in enumerate(looks) if j.beats("a", "b") or (both and j.beats("b", "a")))
            first.append(next(said, LOOKS))
        return [fmean(f <= look for f in first) for look in range(len(self.runs))]

    def claims(self) -> tuple[float, float, float]:
        """Returns at the last look strategies that are behind, the share of studies with a false claim, and repeats.

        A claim is false where it contradicts the order of the mean scores over all roots.
        """
        runs, names, sign = self.runs[-1], list(self.scores), self.bank.sign
        base = np.median(self.bank.untrained)
        filled = {n: [[base if x is None else x for x in own] for own in s] for n, s in self.scores.items()}
        truth = np.array([sign * fmean(typical(own).mean for own in filled[n]) for n in names])
        studies = [self.judged(i, {n: s[i] for n, s in self.scores.items()}, runs) for i in range(len(self.final))]
        beaten = np.array([[[a != b and by_library(j, a, b) for b in names] for a in names] for j in studies])
        false = beaten & (truth[:, None] >= truth[None])
        behind, half_ = beaten.any(axis=1), len(beaten) // 2
        one, two = behind[:half_], behind[half_ : 2 * half_]
        again = 2 * float((one & two).sum()) / max(1.0, float(one.sum() + two.sum()))
        return float(behind.sum(axis=1).mean()), float(false.any(axis=(1, 2)).mean()), again


def _rates(
    bank: Bank, way: Batch, here: Draws, there: Draws, sizes: Mapping[str, float]
) -> tuple[dict[str, Any], dict[str, float]]:
    """Returns what is measured of a way, and the standard deviations of a run."""
    simulation = Simulation(bank, way, here, there)
    one_run = dict(sizes) or simulation.one_run
    names = simulation.names
    null = [simulation.found(n, 0.0, both=True) for n in names]
    planted = {str(s): [simulation.found(n, s * one_run[n]) for n in names] for s in SIZES}
    behind, false, again = simulation.claims()
    last = [[x for x in own if x is not None] for n in names for own in simulation.scores[n]]
    return {
        "null": [fmean(rates) for rates in zip(*null, strict=True)],
        "null worst": max(rates[-1] for rates in null),
        "planted": {s: [fmean(r) for r in zip(*rates, strict=True)] for s, rates in planted.items()},
        "behind": behind,
        "false": false,
        "again": again,
        "level": fmean(fmean(x[-way.runs :]) for x in last if x),
    }, one_run


def show(found: dict[str, Any]) -> str:
    """Returns the table, means over the tasks, and the worst task in brackets."""
    rows = []
    for way, cost in found["costs"].items():
        ones = [task[way] for task in found["tasks"].values()]
        every = round(cost / FIRST)
        error, false = [one["null"][-1] for one in ones], [one["false"] for one in ones]
        rows.append(
            [
                way,
                f"{cost:.2f}",
                f"{_by_look([one['null'] for one in ones], every, 0)} ({max(error):.1%})",
                *(_by_look([one["planted"][str(size)] for one in ones], every, 1) for size in SIZES),
                f"{fmean(one['behind'] for one in ones):.2f}",
                f"{fmean(false):.1%} ({max(false):.1%})",
                f"{fmean(one['again'] for one in ones):.1%}",
            ]
        )
    planted = [f"worse by {size:g} sd: found" for size in SIZES]
    head = ["a batch", "its whole runs", "two names: one called better", *planted, "behind", "false", "again"]
    return (
        f"At {found['roots']} roots a task; the mean over the tasks, and in brackets the worst. Errors are those by 0, "
        "10, 20 and 30 added whole runs, and what is found by 10, 20 and 30. The last three columns are for studies of "
        f"all eight strategies after the last look:\n\n{table(head, rows)}"
    )


def _by_look(rates: Sequence[Sequence[float]], every: int, first: int) -> str:
    """Returns the mean rates once so many times ten whole runs were added, a dash where there is no look."""
    means = [fmean(own) for own in zip(*rates, strict=True)]
    shown = {look * every: f"{mean:.1%}" for look, mean in enumerate(means)}
    return ", ".join(shown.get(added, "–") for added in range(first, LOOKS))
