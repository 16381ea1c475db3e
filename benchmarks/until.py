"""What a batch of ``--until decided`` adds and how it is judged, on the banks of real runs.

Fresh seeds leave the luck of tuning as it is, so a batch first adds new configurations, and the choices of its final
runs come from random halves of all configurations so far; former final runs stay. Ways to spend a batch are played, and
rules by which a look says that one strategy is better. A strategy is compared with itself, tuned at another root on the
same final seeds: as it is (one called better is an error), and with one of the two made worse by some standard
deviations of a tuned run (found is right). "Found" is by a look or before, since a strategy that is behind gets no more
runs. What is built is judged by the library, and whole studies of all eight strategies are played to their end.

Of a bank's 40 seeds, 12 are for tuning and 28 for final runs, of which none comes twice; only the last look of 10 runs
a batch sees 12 of them again, so its errors are too many, and its claims too. Where one strategy alone has a learning
rate that trains (``digits-deep``), it has more roots.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.bank import SEEDS, TASKS, Bank, Draws, Landscape, Mask, Whole, judged
from benchmarks.measure import table
from benchmarks.tuning import Tuned, chosen, trained, tuned
from benchmarks.until_rules import BUILT, FORMER, RULES, Looks, Rule, part
from benchmarks.until_studies import PLAN, agreement, played_out, said_again
from thalweg.compare.design import WINDOW, half, sobol
from thalweg.tensors import derive_seed

COMPARISONS = 600  # of one strategy with itself, on each task
STUDIES = 30  # pairs of studies of all strategies, on each task
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
    """

    name: str
    trials: int
    runs: int
    near: bool = False

    @property
    def promoted(self) -> int:
        """New configurations that go on to the end."""
        return math.ceil(0.6 * self.trials)

    @property
    def cost(self) -> float:
        """In whole runs."""
        return self.trials / 3 + self.promoted * 2 / 3 + self.runs

    def seeds(self) -> list[int]:
        """Returns the final runs of a strategy at each look."""
        return [PLAN.seeds + self.runs * look for look in range(PLAN.looks)]


ADDED = Batch(f"{PLAN.added_seeds} runs, {PLAN.added_trials} trials", PLAN.added_trials, PLAN.added_seeds)
WAYS = (
    Batch("10 runs", 0, 10),
    ADDED,
    Batch("6 runs, 5 trials near the best", 5, 6, near=True),
    Batch("4 runs, 8 trials", 8, 4),
    Batch("6 runs, 8 trials", 8, 6),
)


def measure(names: Sequence[str] = tuple(TASKS), comparisons: int = COMPARISONS, studies: int = STUDIES) -> Any:
    """Returns the rates of each way, of each rule and of whole studies on each bank."""
    found: dict[str, Any] = {}
    for name in names:
        bank = Bank.of(name)
        count = sum(land.fails.min() < TRAINS for land in bank.strategies.values())
        roots = math.ceil(comparisons / count)
        here, there = draws(range(roots)), draws(range(roots, 2 * roots))
        there = replace(there, roots=here.roots, final=here.final)
        ways, rules, sizes = {}, {}, dict[str, float]()
        for way in WAYS:
            simulation = Simulation(bank, way, here, there, sizes)
            sizes = simulation.one_run
            asked = {WAYS[0].name: [FORMER, BUILT], ADDED.name: [FORMER, *RULES]}.get(way.name, [BUILT])
            rates = simulation.rates(asked, SIZES if way == ADDED else SIZES[1:2])
            ways[way.name] = rates[BUILT.name]
            rules |= {"10 runs": rates[FORMER.name]} if way == WAYS[0] else rates if way == ADDED else {}
        own = draws(range(2 * studies))
        whole = Simulation(bank, ADDED, own, own, sizes)
        ends = played_out(bank, whole.scores, own)
        found[name] = {
            "roots": roots,
            "ways": ways,
            "rules": rules,
            "studies": said_again(bank, whole.scores, ends),
            "library": agreement(bank, own, whole.scores, whole.recommended, ends),
        }
        print(name, found[name], flush=True)
    costs = {way.name: way.cost for way in WAYS}
    return {"comparisons": comparisons, "studies": 2 * studies, "costs": costs, "tasks": found}


def draws(roots: range) -> Draws:
    """Returns what the roots draw for all looks; of the final seeds none comes again before all have come."""
    final = [np.random.default_rng(derive_seed(r, "final")).permutation(SEEDS - FOR_TUNING) for r in roots]
    tuning = [np.random.default_rng(derive_seed(r, "tuning")).integers(0, FOR_TUNING, MOST) for r in roots]
    points = np.stack([sobol(MOST, r)[:, 0] for r in roots])
    twice = np.tile(np.array(final), (1, 2))
    return Draws(roots, points, np.array(tuning), FOR_TUNING + twice)


def played(land: Landscape, drawn: Draws, way: Batch) -> Iterator[tuple[Whole, Whole]]:
    """Yields at each look the positions in the bank of its final runs, over roots × runs, and of what is recommended.

    What the library does with the batch that is built; :func:`benchmarks.until_studies.agreement` holds it to that.
    """
    state, stops = tuned(land, drawn, 0.0, PLAN.trials), [0, *way.seeds()]
    for look in range(1, PLAN.looks + 1):
        if look > 1 and way.trials:
            state = _added(land, drawn, state, way)
        alternatives = _choices(drawn, state, range(PLAN.seeds))
        apart = np.abs(alternatives[:, :, None] - alternatives[:, None]).sum(axis=2)
        middle = apart.round(9).argmin(axis=1)
        recommended = alternatives[np.arange(len(middle)), middle]
        runs = range(stops[look - 1], stops[look])
        yield land.nearest(_choices(drawn, state, runs)), land.nearest(recommended)


def _choices(drawn: Draws, state: Tuned, runs: range) -> Any:
    return np.stack([chosen(state, _split(drawn.roots, state.lr.shape[1], run)) for run in runs], axis=1)


@cache
def _split(roots: range, count: int, run: int) -> Mask:
    """Returns which of so many configurations the choice of a final run is made from, over roots × configurations."""
    split = np.zeros((len(roots), count), dtype=bool)
    for i, root in enumerate(roots):
        split[i, half(count, run, root)] = True
    return split


def _added(land: Landscape, drawn: Draws, state: Tuned, way: Batch) -> Tuned:
    """Returns the trials with those of one more batch."""
    low, high = land.range
    at = slice(state.lr.shape[1], state.lr.shape[1] + way.trials)
    u = drawn.points[:, at.start - 1 : at.stop - 1]  # the first trial is the default one, of no point
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
        one_run: standard deviation of a tuned run of each strategy; none for those of the first runs here.
    """

    def __init__(self, bank: Bank, way: Batch, here: Draws, there: Draws, one_run: Mapping[str, float]) -> None:
        self.bank, self.way, self.final = bank, way, here.final
        self.names = [n for n, land in bank.strategies.items() if land.fails.min() < TRAINS]
        self.recommended: dict[str, list[Whole]] = {}
        self.scores = {n: self._scores(n, here) for n in bank.strategies}
        self.again = {n: self._scores(n, there) for n in self.names} if there is not here else {}
        first = {n: [x for own in self.scores[n] for x in own[: PLAN.seeds] if x is not None] for n in bank.strategies}
        self.one_run = dict(one_run) or {n: float(np.std(own or [0.0])) for n, own in first.items()}

    def _scores(self, name: str, drawn: Draws) -> Scores:
        land = self.bank.strategies[name]
        looks = list(played(land, drawn, self.way))
        self.recommended.setdefault(name, [recommended for _, recommended in looks])
        at = np.concatenate([positions for positions, _ in looks], axis=1)
        test = land.runs.test[at, self.final[:, : at.shape[1]]]
        return [[x if math.isfinite(x) else None for x in row] for row in test.tolist()]

    def _looks(self, name: str, worse: float) -> Iterator[Looks]:
        """Yields for each root a strategy beside itself that was tuned apart and made worse, at all looks."""
        stops, direction = self.way.seeds(), "max" if self.bank.sign < 0 else "min"
        for root, own in enumerate(self.scores[name]):
            twin = [None if x is None else x + self.bank.sign * worse for x in self.again[name][root]]
            base = self.bank.untrained[self.final[root, : stops[-1]]].tolist()
            study = {"a": own, "b": twin}
            whole = judged(study, direction, base, self.bank.constant, plan=PLAN)
            yield Looks([part(whole, slice(stop)) for stop in stops], stops)

    def rates(self, rules: Sequence[Rule], sizes: Sequence[float]) -> dict[str, Any]:
        """Returns what each rule says of a strategy and itself, means over the strategies."""
        found: dict[str, Any] = {rule.name: {"planted": {}} for rule in rules}
        for size in (0.0, *sizes):
            firsts = {rule.name: list[list[float]]() for rule in rules}
            for name in self.names:
                told = list(self._looks(name, size * self.one_run[name]))
                for rule in rules:
                    first = [looks.first(rule, both=size == 0) for looks in told]
                    firsts[rule.name].append([fmean(f <= look for f in first) for look in range(PLAN.looks)])
            for rule in rules:
                rates = [fmean(own) for own in zip(*firsts[rule.name], strict=True)]
                if size:
                    found[rule.name]["planted"][str(size)] = rates
                else:
                    found[rule.name] |= {"null": rates, "worst": max(own[-1] for own in firsts[rule.name])}
        return found


def show(found: dict[str, Any]) -> str:
    """Returns the tables: of each task, of the ways to spend a batch, and of the rules."""
    tasks = list(found["tasks"].values())
    built, former = ([task["rules"][name] for task in tasks] for name in (BUILT.name, "10 runs"))
    rows = [
        ["two names: one called better", *(_by_look(one["null"]) for one in built)],
        ["its worst strategy", *(f"{one['worst']:.1%}" for one in built)],
        *([f"worse by {s:g} sd: found", *(_by_look(one["planted"][str(s)]) for one in built)] for s in SIZES),
        ["formerly: one called better", *(_by_look(one["null"]) for one in former)],
        ["formerly: 1 sd found", *(_by_look(one["planted"][str(SIZES[1])]) for one in former)],
    ]
    studies = [task["studies"] for task in tasks]
    for what, form in STATED.items():
        rows.append([form.partition("|")[0], *(f"{one[what]:{form.partition('|')[2]}}" for one in studies)])
    rows.append(["roots at which the library has the same", *(task["library"] for task in tasks)])
    head = ["two names: one called better", "worst task", "worst strategy", "worse by 1 sd: found"]
    ways = [[way, f"{c:.2f}", *_means([t["ways"][way] for t in tasks])] for way, c in found["costs"].items()]
    rules = [[rule.name, *_means([task["rules"][rule.name] for task in tasks])] for rule in (FORMER, *RULES)]
    return (
        f"As built, {found['comparisons']} comparisons of a strategy with itself and {found['studies']} studies of all "
        f"strategies a task. Rates are those by each look:\n\n{table(['', *found['tasks']], rows)}\n\n"
        f"Other batches, judged as built; means over the tasks:\n\n"
        f"{table(['a batch', 'its whole runs', *head], ways)}\n\n"
        f"Other rules, for {ADDED.name} a batch:\n\n{table(['a look', *head], rules)}"
    )


STATED = {
    "decided": "studies that end decided|.0%",
    "batches": "batches that a study adds|.1f",
    "cost": "cost of a strategy, without batches 1|.2f",
    "behind": "strategies behind|.2f",
    "false": "studies with a false claim|.1%",
    "again": "a strategy behind is behind at another root|.1%",
}


def _means(ones: Sequence[Mapping[str, Any]]) -> list[str]:
    errors = [one["null"][-1] for one in ones]
    planted = [[fmean(r) for r in zip(*(one["planted"][str(SIZES[1])] for one in ones), strict=True)]]
    nulls = [fmean(r) for r in zip(*(one["null"] for one in ones), strict=True)]
    worst = max(one["worst"] for one in ones)
    return [_by_look(nulls), f"{max(errors):.1%}", f"{worst:.1%}", _by_look(planted[0])]


def _by_look(rates: Sequence[float]) -> str:
    return ", ".join(f"{rate:.1%}" for rate in rates)
