"""Whole studies that go on until they are decided, on a bank: played, and carried out by the library at some roots."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.bank import Bank, Draws, Whole, judged
from benchmarks.whole_studies import Place, carried_out
from thalweg.compare.design import LOOKS, SEQUENTIAL, Budget
from thalweg.compare.statistics import typical
from thalweg.compare.study.judged import Judged
from thalweg.compare.study.verdict import Verdict, decide
from thalweg.tensors import derive_seed

PLAN = Budget(trials=12, steps=300, seeds=10, looks=LOOKS, protocol=SEQUENTIAL)
ROOTS = 4  # at which the library carries out what was played

Scores = Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class End:
    """How a study ended: the verdict, what it was made of, and the last look."""

    verdict: Verdict
    judged: Judged
    look: int

    @property
    def cost(self) -> float:
        """Mean gradient evaluations of a strategy, in those that it has without any batch."""
        made = [replace(PLAN, looks=PLAN.look_of(len(runs.scores) - 1)) for runs in self.judged.runs.values()]
        once = replace(PLAN, looks=1)
        spent = [plan.tuning_evaluations + plan.final_evaluations for plan in made]
        return fmean(spent) / (once.tuning_evaluations + once.final_evaluations)


def played_out(bank: Bank, scores: Mapping[str, Scores], drawn: Draws) -> list[End]:
    """Returns how the study at each root ends; a strategy that is behind has no more runs."""
    direction, most, found = "max" if bank.sign < 0 else "min", PLAN.seeds_by(PLAN.looks), list[End]()
    for root in range(len(drawn.roots)):
        base, going, runs = bank.untrained[drawn.final[root, :most]].tolist(), list(scores), dict.fromkeys(scores, 0)
        for look in range(1, PLAN.looks + 1):
            runs |= dict.fromkeys(going, PLAN.seeds_by(look))
            some = {n: s[root][: runs[n]] for n, s in scores.items()}
            end = End(decide(now := judged(some, direction, base, bank.constant, plan=PLAN)), now, look)
            if end.verdict.is_decided:
                break
            going = [n for n in going if n in end.verdict.candidates]
        found.append(end)
    return found


def said_again(bank: Bank, scores: Mapping[str, Scores], ends: Sequence[End]) -> dict[str, float]:
    """Returns what the studies say, how often it is false, and how often another root says it again.

    A claim is false where it contradicts the order of the mean scores over all roots.
    """
    base, names = float(np.median(bank.untrained)), list(scores)
    filled = {n: [[base if x is None else x for x in own] for own in s] for n, s in scores.items()}
    truth = {n: bank.sign * fmean(typical(own).mean for own in s) for n, s in filled.items()}
    wrong = [any(e.judged.beats(a, b) and truth[a] >= truth[b] for a in names for b in names if a != b) for e in ends]
    behind = [{one.name for one in end.verdict.behind} for end in ends]
    pairs = list(zip(behind[: len(behind) // 2], behind[len(behind) // 2 :], strict=True))
    said, again = sum(len(a) + len(b) for a, b in pairs), sum(len(a & b) for a, b in pairs)
    return {
        "behind": fmean(map(len, behind)),
        "false": fmean(wrong),
        "again": 2 * again / max(1, said),
        "decided": fmean(end.verdict.is_decided for end in ends),
        "batches": fmean(end.look - 1 for end in ends),
        "cost": fmean(end.cost for end in ends),
    }


def agreement(
    bank: Bank,
    drawn: Draws,
    scores: Mapping[str, Scores],
    recommended: Mapping[str, Sequence[Whole]],
    ends: Sequence[End],
) -> str:
    """Returns at how many of the first roots the library has these runs, recommendations, verdicts and looks."""
    same = 0
    for root, (results, end) in enumerate(zip(_library(bank, drawn), ends, strict=False)):
        said, found, look = results["verdict"], results["strategies"], results["run"]["last_look"]
        runs = {n: list(own.scores) for n, own in end.judged.runs.items()}
        looks = {n: PLAN.look_of(len(own) - 1) - 1 for n, own in runs.items()}
        chosen = {s["name"]: bank.strategies[s["name"]].nearest(np.log10([s["hyperparameters"]["lr"]])) for s in found}
        same += (
            {s["name"]: s["test"]["per_seed"] for s in found} == runs
            and {n: int(at[0]) for n, at in chosen.items()}
            == {n: int(recommended[n][looks[n]][root]) for n in recommended}
            and (said["candidates"], look["look"]) == (end.verdict.candidates, end.look)
        )
    return f"{same} of {ROOTS}"


def _library(bank: Bank, drawn: Draws) -> Iterator[dict[str, Any]]:
    """Yields the results of the library's own study at the first roots, with the seeds of the bank that they draw."""
    placed = [(root, _place(drawn, row, root)) for row, root in enumerate(drawn.roots[:ROOTS])]
    return carried_out(bank, placed, until="decided")


def _place(drawn: Draws, row: int, root: int) -> Place:
    streams = (("tuning", drawn.tuning), ("final", drawn.final))
    places = {derive_seed(root, kind, i) % 2**31: int(at) for kind, own in streams for i, at in enumerate(own[row])}
    return lambda seed, is_final: places[seed]
