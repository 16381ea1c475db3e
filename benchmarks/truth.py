"""Is the verdict true? The whole procedure, tuning included, on studies that are drawn from banks of real runs.

A bank holds every strategy at many learning rates under 40 seeds. A root seed draws from it what it would draw for a
study: configurations, seeds, halves. The runs that this comes to are judged by the library itself, and what is said is
compared with what all roots say together. Some studies are also run through the library alone, on real training.
``digits-150`` is the default study, ``digits`` the same with 500 steps. The protocol was designed on the tasks other
than ``digits-deep`` and ``digits-deep-residual``, which were left until it was fixed.

A claim, that a strategy is behind, is false where it contradicts the order of the typical scores over all roots; a run
that diverged has the score of the untrained model there. Strategies that no learning rate trains in half of its runs
are left out of the rates of single strategies. In brackets is the worst strategy, or the worst task.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.bank import TASKS, Bank, Draws, Mask, judged
from benchmarks.designs import ADOPTED, ANCHORS, DESIGNS, Design, Played, steps_to_target
from benchmarks.measure import table
from benchmarks.whole_studies import agreement, null_studies, shown
from thalweg.compare.statistics import typical
from thalweg.compare.study.judged import Judged, trained
from thalweg.compare.study.verdict import Verdict, decide

ROOTS = 400
SHIFT, PLANTED = 0.2, 2.0  # decades; standard deviations
LOST, COLLAPSED = 0.015, range(7)
FAILS, TRAINS = 0.05, 0.5  # share of fresh runs that fail; below which a strategy has a learning rate that trains
WHOLE, SECONDS = 200, 420.0  # studies through the library, and for how long at most
CHECKED = 8  # roots of a task at which the library itself is run on the bank

Scores = list[list[float | None]]  # over roots × final runs


def measure(
    names: Sequence[str] = tuple(TASKS), roots: int = ROOTS, whole: int = WHOLE, seconds: float = SECONDS
) -> dict[str, Any]:
    """Returns the rates.

    Arguments:
        names: of the banks, which are trained where they are not there.
        roots: root seeds of each.
        whole: number of studies through the library.
        seconds: after which no further of these is begun.
    """
    began = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - began:6.0f} s  {text}", flush=True)

    here = Draws.of(range(roots))
    far = Draws.of(range(roots, 2 * roots))
    there = Draws(here.roots, far.points, far.tuning, here.final)
    tasks: dict[str, Any] = {}
    for name in names:
        bank, found = Bank.of(name), {}
        for design in (*DESIGNS, *ANCHORS):
            simulation = Simulation(bank, design, here, there)
            found[design.name] = simulation.rates()
            if design is ADOPTED:
                recommended = {n: p.recommended for n, p in simulation.played.items()}
                found[design.name]["agree"] = agreement(
                    bank, simulation.scores, recommended, simulation.decided(), CHECKED
                )
            say(f"{name}: {design.name}")
        tasks[name] = found
    studies = null_studies(whole, seconds, say)
    designs = {d.name: d.cost for d in (*DESIGNS, *ANCHORS)}
    return {"roots": roots, "checked": CHECKED, "tasks": tasks, "costs": designs, "whole": studies}


class Simulation:
    """Studies of one design on a bank, one for each root.

    Arguments:
        bank: of the task.
        design: that is played.
        here: what the roots draw.
        there: the same with independent tuning.
    """

    def __init__(self, bank: Bank, design: Design, here: Draws, there: Draws) -> None:
        self.bank, self.design, self.final = bank, design, here.final
        self.direction = "max" if bank.sign < 0 else "min"
        lands = bank.strategies
        self.played = {n: design.play(land, here, 0.0) for n, land in lands.items()}
        self.apart = {n: design.play(land, there, 0.0) for n, land in lands.items()}
        self.moved = {n: design.play(land, here, SHIFT) for n, land in lands.items()}
        self.scores, self.again, self.shifted = (
            {n: self._scores(n, p) for n, p in played.items()} for played in (self.played, self.apart, self.moved)
        )
        self.untrained = np.median(bank.untrained[self.final], axis=1).tolist()
        levels = [{n: self._filled(i, n) for n in self.scores} for i in range(len(self.final))]
        self.truth = {n: fmean(level[n] for level in levels) for n in self.scores}
        self.spread = {n: float(np.std([level[n] for level in levels])) for n in self.scores}
        self.one_run = {
            n: float(np.std([x for own in s for x in own if x is not None] or [0.0])) for n, s in self.scores.items()
        }

    def _scores(self, name: str, played: Played) -> Scores:
        test = self.bank.strategies[name].runs.test[played.at, played.seeds]
        return [[x if math.isfinite(x) else None for x in row] for row in test.tolist()]

    def _filled(self, root: int, name: str) -> float:
        """Returns the typical score with that of the untrained model for runs that diverged; lower is better."""
        base = self.untrained[root]
        return self.bank.sign * typical([base if x is None else x for x in self.scores[name][root]]).mean

    def judged(self, root: int, scores: Mapping[str, Sequence[float | None]], **more: Any) -> Judged:
        """Returns the runs of a root as the library judges them."""
        own = self.bank.untrained[self.final[root]].tolist()
        return judged(scores, self.direction, own, self.bank.constant, is_tuned_apart=self.design.clear, **more)

    def rates(self) -> dict[str, Any]:
        """Returns what is measured of the design."""
        beats = self.design.beats
        named = [n for n, land in self.bank.strategies.items() if land.fails.min() < TRAINS]
        studies = [self.judged(i, {n: s[i] for n, s in self.scores.items()}) for i in range(len(self.final))]
        names = list(self.scores)
        beaten = np.array([[[a != b and beats(j, a, b) for b in names] for a in names] for j in studies])
        found = {
            "null": self._told_apart(self.again, named),
            "null shifted": self._told_apart(self.shifted, named),
            "planted": self._planted({n: PLANTED * self.spread[n] for n in named}),
            "planted one run": self._planted({n: PLANTED * self.one_run[n] for n in named}),
            "covered": self._covered(studies, named),
            "fails": self._recommended_fails(),
            **self._claims(beaten, names),
        }
        if self.design is ADOPTED:
            found["loser found"] = self._loser_found(named) if self.direction == "max" else None
            found |= self._cost(named)
        return found

    def _pairs(self, other: Mapping[str, Scores], name: str) -> list[Judged]:
        twins = zip(self.scores[name], other[name], strict=True)
        return [self.judged(i, {"a": one, "b": two}) for i, (one, two) in enumerate(twins)]

    def _told_apart(self, other: Mapping[str, Scores], named: Sequence[str]) -> dict[str, float]:
        """Returns how often one strategy under two names is told apart, on average and of the worst strategy."""
        beats = self.design.beats
        return _mean_and(
            max, [fmean(beats(j, "a", "b") or beats(j, "b", "a") for j in self._pairs(other, n)) for n in named]
        )

    def _planted(self, worse: Mapping[str, float]) -> dict[str, float]:
        """Returns how often a strategy is found worse than the same one, tuned apart, that is better by so much."""
        rates = []
        for name, size in worse.items():
            moved = {name: [[None if x is None else x + self.bank.sign * size for x in s] for s in self.again[name]]}
            rates.append(fmean(self.design.beats(j, "a", "b") for j in self._pairs(moved, name)))
        return _mean_and(min, rates)

    def _loser_found(self, named: Sequence[str]) -> dict[str, float]:
        """Returns how often one that loses 0.015 on every seed is found, by how many of its runs collapse as well."""
        sound = [
            (name, root, own)
            for name in named
            for root, own in enumerate(self.scores[name])
            if not any(self.judged(root, {name: own}).runs[name].failed)
        ]
        rates = {}
        for count in COLLAPSED if sound else ():
            found = []
            for name, root, own in sound:
                loser = [None if x is None else x + self.bank.sign * LOST for x in own]
                loser[:count] = [None] * count
                study = {n: s[root] for n, s in self.scores.items()} | {"loser": loser}
                found.append(self.design.beats(self.judged(root, study), name, "loser"))
            rates[str(count)] = fmean(found)
        return rates

    def _covered(self, studies: Sequence[Judged], named: Sequence[str]) -> dict[str, float]:
        rates = []
        for name in named:
            found = [typical(trained(j.runs[name]), halves=self.design.halves) for j in studies]
            known = [f for f in found if not math.isnan(f.mean)]
            truth = fmean(f.mean for f in known)
            rates.append(fmean(f.low <= truth <= f.high for f in known if not math.isnan(f.low)))
        return _mean_and(min, rates)

    def _recommended_fails(self) -> dict[str, float]:
        """Returns how often what is recommended rarely trains, of strategies of which some learning rate does."""
        lands = {n: land for n, land in self.bank.strategies.items() if land.fails.min() < FAILS}
        return _mean_and(max, [float((s.fails[self.played[n].recommended] >= FAILS).mean()) for n, s in lands.items()])

    def _claims(self, beaten: Mask, names: Sequence[str]) -> dict[str, float]:
        """Returns how true and how repeatable the claims are; ``beaten`` is roots × better × worse."""
        truth = np.array([self.truth[n] for n in names])
        false = beaten & (truth[:, None] >= truth[None])
        half = len(beaten) // 2
        behind = np.asarray(beaten.any(axis=1))
        one, two, best_one, best_two = behind[:half], behind[half : 2 * half], ~behind[:half], ~behind[half : 2 * half]
        claims = max(1, int(one.sum() + two.sum()))
        pairs = max(1, int(beaten[: 2 * half].sum()))
        union = np.maximum(1, (best_one | best_two).sum(axis=1))
        return {
            "again": 2 * int((one & two).sum()) / claims,
            "reversed": 2 * int((beaten[:half] & beaten[half : 2 * half].transpose(0, 2, 1)).sum()) / pairs,
            "false": float(false.any(axis=(1, 2)).mean()),
            "behind": float(behind.sum(axis=1).mean()),
            "could be best": float((~behind).mean()),
            "overlap": float(((best_one & best_two).sum(axis=1) / union).mean()),
            "typical": float(fmean(self.truth.values())) * self.bank.sign,
        }

    def decided(self) -> Iterator[Verdict]:
        """Yields the verdict of each root."""
        steps = steps_to_target(self.bank.sign, {n: (self.bank.strategies[n], p) for n, p in self.played.items()})
        for root in range(len(self.final)):
            study = {n: s[root] for n, s in self.scores.items()}
            yield decide(self.judged(root, study, steps={n: s[root] for n, s in steps.items()}))

    def _cost(self, named: Sequence[str]) -> dict[str, Any]:
        """Returns how the sentence about cost fares: over roots, and of one strategy under two names."""
        fastest = [verdict.fastest for verdict in self.decided()]
        half = len(fastest) // 2
        reruns = list(zip(fastest[:half], fastest[half : 2 * half], strict=True))
        told = []
        for name in named:
            land, rates = self.bank.strategies[name], []
            steps = steps_to_target(self.bank.sign, {"a": (land, self.played[name]), "b": (land, self.apart[name])})
            for root, study in enumerate(self._pairs(self.again, name)):
                runs = {n: replace(own, steps=steps[n][root]) for n, own in study.runs.items()}
                rates.append(decide(replace(study, runs=runs)).fastest is not None)
            told.append(fmean(rates))
        return {
            "fastest named": fmean(f is not None for f in fastest),
            "fastest same or none": fmean(a is None or b is None or a == b for a, b in reruns),
            "fastest null": _mean_and(max, told),
        }


def _mean_and(worst: Callable[[Sequence[float]], float], rates: Sequence[float]) -> dict[str, float]:
    return {"mean": fmean(rates), "worst": worst(rates)}


def show(found: dict[str, Any]) -> str:
    """Returns the tables."""
    return "\n\n".join(
        [
            f"The procedure of `thalweg compare`, 12 trials and 10 seeds, at {found['roots']} root seeds a task:",
            _procedure(found),
            "Other designs of about equal cost, and below how others judge, on the same banks; mean over the tasks:",
            _designs(found, [d.name for d in DESIGNS]),
            _designs(found, [d.name for d in ANCHORS]),
            shown(found["whole"]),
        ]
    )


ROWS = (
    ("one strategy under two names, tuned at two roots: one called better", "null", "≤ 5 %"),
    ("the same at one root, its range shifted by a fifth of a decade", "null shifted", "≤ 5 %"),
    ("worse by 2 standard deviations between roots: found", "planted", "≥ 80 %"),
    ("worse by 2 standard deviations of a tuned run: found", "planted one run", "≥ 80 %"),
    ("worse by 0.015 on every seed, up to 6 of 10 runs collapsed: found", "loser found", "≥ 95 %"),
    ("95 % interval covers the mean over roots", "covered", "92 to 98 %"),
    ("a strategy behind is behind at another root", "again", "≥ 70 %"),
    ("a claim is reversed at another root", "reversed", "0"),
    ("studies with a false claim", "false", "≤ 5 %"),
    ("the recommended configuration fails in 5 % of fresh runs", "fails", "≤ 1 %"),
    ("strategies that could be the best", "could be best", ""),
    ("overlap of these between two roots", "overlap", ""),
    ("studies that call one the fastest", "fastest named", ""),
    ("the same one or none at another root", "fastest same or none", "≥ 90 %"),
    ("one strategy under two names: one called faster", "fastest null", "≤ 5 %"),
)


def _procedure(found: dict[str, Any]) -> str:
    tasks = {name: one[ADOPTED.name] for name, one in found["tasks"].items()}
    rows = [[text, goal, *(_rate(one[key]) for one in tasks.values())] for text, key, goal in ROWS]
    agree = [f"{one['agree']} of {found['checked']}" for one in tasks.values()]
    rows.append(["roots at which the library has the same runs and verdict", "all", *agree])
    return table(["", "goal", *tasks], rows)


def _rate(value: Any) -> str:
    if value is None:
        return "–"
    if not isinstance(value, Mapping):
        return f"{value:.1%}"
    if "mean" in value:
        return f"{value['mean']:.1%} ({value['worst']:.1%})"
    return f"{min(value.values()):.1%}" if value else "–"


def _designs(found: dict[str, Any], names: Sequence[str]) -> str:
    keys = ("null", "null shifted", "planted one run", "covered", "again", "reversed", "false", "fails", "overlap")
    worst = {key: min if key in ("planted one run", "covered", "again", "overlap") else max for key in keys}
    rows = []
    for name in names:
        tasks = [one[name] for one in found["tasks"].values()]
        values = {key: [t[key]["mean"] if isinstance(t[key], Mapping) else t[key] for t in tasks] for key in keys}
        rates = [f"{fmean(own):.1%} ({worst[key](own):.1%})" for key, own in values.items()]
        rows.append([name, found["costs"][name], *rates, fmean(t["could be best"] for t in tasks)])
    head = ["two names", "range shifted", "2 sd of a run found", "covers", "again", "reversed", "false", "fails"]
    return table(["design", "runs of a strategy", *head, "overlap", "could be best"], rows)
