"""What many studies say together: where a strategy wins, how soon each reaches the targets, and what hangs on a task.

Of the candidate c and each rival r, task t is won, lost or tied by the verdict of its study. Over the tasks:

    share of wins w / n, with the exact interval of a proportion,   sign test p = P(B ≥ w),  B ~ Bin(w + l, ½)
    ρ_s(τ) = share of tasks where s reaches the target within τ times the steps of the first that does
    score of s = the mean of ρ_s over log τ from 1 to 4

The candidate is better in general than a rival if the sign test says so at 0.05 over the number of rivals, and still
does whichever task is left out. The interval and the test take the tasks for a sample of tasks like them; with a dozen,
hand-picked, that is the reader's judgement.

Source: profiles, Dolan and Moré 2002; scores, AlgoPerf (Dahl et al. 2023, §4.3).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from thalweg.compare.statistics import more_often, proportion

Outcome = Literal["win", "tie", "loss", "neither"]
LEVEL = 0.05
MOST = 4.0  # times the steps of the fastest, to which profiles are drawn and scored
POINTS = 81


@dataclass(frozen=True)
class Against:
    """The candidate against one rival over the tasks.

    Attributes:
        rival: its name.
        outcomes: by task; ``"neither"`` where both failed to train the model, which counts for neither side.
        wins, ties, losses: how many tasks.
        low, high: 95 % interval of the share of tasks that the candidate wins.
        p: of the one-sided sign test that wins are more frequent than losses.
        better, worse: whether the candidate is better or worse in general.
        hinges_on: the tasks without any of which the answer would be another one.
    """

    rival: str
    outcomes: dict[str, Outcome]
    wins: int
    ties: int
    losses: int
    low: float
    high: float
    p: float
    better: bool
    worse: bool
    hinges_on: list[str]


@dataclass(frozen=True)
class Summary:
    """The answer of a suite.

    Attributes:
        candidate: the strategy in question.
        sentence: the answer.
        details: a sentence for each rival, and those on the profile.
        against: the candidate against each rival.
        profiles: by strategy, the share of tasks at each of ``ratios``.
        ratios: of steps to those of the fastest.
        scores: by strategy, from 0 to 1.
        places: by strategy, its place by score, and its best and worst place when one task is left out.
    """

    candidate: str
    sentence: str
    details: list[str]
    against: list[Against]
    profiles: dict[str, list[float]]
    ratios: list[float]
    scores: dict[str, float]
    places: dict[str, tuple[int, int, int]]

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain values."""
        return asdict(self)


def summarize(results: Mapping[str, Mapping[str, Any]], candidate: str, rivals: Sequence[str]) -> Summary:
    """Returns what the studies of several tasks say of the candidate.

    Arguments:
        results: by task, the content of ``results.json``.
        candidate: a strategy of all studies.
        rivals: the others.
    """
    against = [_against(results, candidate, rival, LEVEL / len(rivals)) for rival in rivals]
    names = [candidate, *rivals]
    ratios = np.geomspace(1, MOST, POINTS)
    steps = {task: _steps(found, names) for task, found in results.items()}
    profiles = _profiles(steps, names, ratios)
    scores = _scores(profiles)
    order, left_out = _places(scores), []
    if len(steps) > 1:
        for task in steps:
            rest = {other: found for other, found in steps.items() if other != task}
            left_out.append(_places(_scores(_profiles(rest, names, ratios))))
    ranks = {name: [order[name], *(found[name] for found in left_out)] for name in names}
    places = {name: (order[name], min(own), max(own)) for name, own in ranks.items()}
    details = [_outcomes_in_words(one, len(results)) for one in against]
    details += [*_could_not_run(results), *_of_profiles(scores, places, names)]
    return Summary(
        candidate,
        _sentence(candidate, against),
        details,
        against,
        {name: [float(share) for share in profiles[name]] for name in names},
        [float(ratio) for ratio in ratios],
        scores,
        places,
    )


def _against(results: Mapping[str, Mapping[str, Any]], candidate: str, rival: str, level: float) -> Against:
    outcomes = {task: _outcome(found, candidate, rival) for task, found in results.items()}
    told, of = _general(list(outcomes.values()), level), list(outcomes.values())
    hinges = [t for t in outcomes if _general([o for other, o in outcomes.items() if other != t], level) != told]
    wins, losses = of.count("win"), of.count("loss")
    low, high = proportion(wins, len(of))
    certain = told if not hinges else 0
    return Against(
        rival,
        outcomes,
        wins,
        of.count("tie"),
        losses,
        low,
        high,
        more_often(wins, losses),
        certain > 0,
        certain < 0,
        hinges if told else [],
    )


def _general(outcomes: Sequence[Outcome], level: float) -> int:
    """Returns 1 where the sign test says better, −1 where it says worse, else 0."""
    wins, losses = outcomes.count("win"), outcomes.count("loss")
    return (more_often(wins, losses) <= level) - (more_often(losses, wins) <= level)


def _outcome(results: Mapping[str, Any], candidate: str, rival: str) -> Outcome:
    pair = next((p for p in results["pairs"] if {p["a"], p["b"]} == {candidate, rival}), None)
    if pair is None:  # one of them could not run
        ended = {s["name"]: s["failed"]["count"] < s["failed"]["of"] for s in results["strategies"]}
        return "neither" if ended[candidate] == ended[rival] else "win" if ended[candidate] else "loss"
    if pair["better"] is None and not pair["runs"]:
        failed = {s["name"]: s["failed"] for s in results["strategies"]}
        if all(failed[name]["count"] == failed[name]["of"] for name in (candidate, rival)):
            return "neither"
    return "tie" if pair["better"] is None else "win" if pair["better"] == candidate else "loss"


def _steps(results: Mapping[str, Any], names: Sequence[str]) -> list[float]:
    """Returns each strategy's median steps to the target, infinite where half of its runs never reach it."""
    found = {s["name"]: s["to_target"]["steps"] for s in results["strategies"]}
    return [math.inf if found[name] is None else float(found[name]) for name in names]


def _profiles(steps: Mapping[str, Sequence[float]], names: Sequence[str], ratios: Any) -> dict[str, Any]:
    table = np.array(list(steps.values()), dtype=np.float64).reshape(-1, len(names))
    first = table.min(axis=1, keepdims=True)
    relative = np.divide(table, first, out=np.full_like(table, np.inf), where=np.isfinite(table))
    return {name: (relative[:, i, None] <= ratios * (1 + 1e-12)).mean(axis=0) for i, name in enumerate(names)}


def _scores(profiles: Mapping[str, Any]) -> dict[str, float]:
    return {name: float((shares[1:] + shares[:-1]).mean() / 2) for name, shares in profiles.items()}


def _places(scores: Mapping[str, float]) -> dict[str, int]:
    """Returns the place of each by its score, the same for equal ones."""
    return {name: 1 + sum(other > score + 1e-12 for other in scores.values()) for name, score in scores.items()}


def _sentence(candidate: str, against: Sequence[Against]) -> str:
    better, worse = ([a.rival for a in against if getattr(a, way)] for way in ("better", "worse"))
    said = [
        f"{word} in general than {_listed(names)}" for word, names in (("better", better), ("worse", worse)) if names
    ]
    if said:
        return f"{candidate} is {' and '.join(said)} on tasks like these."
    return (
        f"{candidate} is not shown to be better or worse in general than {_listed([a.rival for a in against], 'or')}."
    )


def _listed(names: Sequence[str], word: str = "and") -> str:
    return f" {word} ".join([", ".join(names[:-1]), names[-1]]).removeprefix(f" {word} ")


def _outcomes_in_words(one: Against, of: int) -> str:
    counts = f"It beats {one.rival} on {one.wins} of {of} tasks, ties on {one.ties} and loses on {one.losses}"
    neither = of - one.wins - one.ties - one.losses
    alone = f"; neither trains the model on {neither}" if neither else ""
    share = f"wins on {100 * one.low:.0f} to {100 * one.high:.0f} % of tasks like these"
    hinges = (
        f" Without {_listed(one.hinges_on, 'or')} the answer would be another one, so it is not given."
        if one.hinges_on
        else ""
    )
    return f"{counts}{alone} ({share}; sign test p = {one.p:.2g}).{hinges}"


def _could_not_run(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns which strategies could not run on which tasks, in sentences."""
    tasks: dict[str, list[str]] = {}
    for task, found in results.items():
        for s in found["strategies"]:
            if s.get("could_not_run"):
                tasks.setdefault(s["name"], []).append(task)
    return [f"{s} could not run on {_listed(of)}, which counts as lost to what can." for s, of in tasks.items()]


def _of_profiles(
    scores: Mapping[str, float], places: Mapping[str, tuple[int, int, int]], names: Sequence[str]
) -> list[str]:
    ranked = sorted(names, key=lambda name: -scores[name])
    shown = ", ".join(
        f"{name} {scores[name]:.2f}" + (f" (place {low} to {high} as one task is left out)" if low < high else "")
        for name in ranked
        for _, low, high in [places[name]]
    )
    return [f"Score by steps to the target, from 0 to 1: {shown}."]
