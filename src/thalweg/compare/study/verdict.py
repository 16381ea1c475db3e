"""The verdict: a winner only where the statistics support one, else a tie.

One strategy beats another when the paired t test, after Holm's correction over all pairs, gives p < 0.05; with
6 to 20 seeds the exact sign-flip test must agree at 5 %, so that no verdict hangs on a normal distribution. The
p of a pair is the larger of the two. The winner beats all
others; without one, all that the best mean does not beat are tied.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

from thalweg.compare.statistics import holm, paired_difference, sign_flip

ALPHA = 0.05


class Cost(NamedTuple):
    """What reaching the target took: medians over the seeds."""

    gradient_evaluations: float
    seconds: float

    def __str__(self) -> str:
        return f"in {self.gradient_evaluations:g} gradient evaluations and {self.seconds:.2g} s"


@dataclass(frozen=True)
class Verdict:
    """The winner, the strategies that tie with the best one, and both in a sentence."""

    winner: str | None
    tied: list[str]
    sentence: str


def pairs(per_seed: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Returns every pair's paired difference with its interval, p and Holm's p; NaN and p = 1 without numbers."""
    both = [(a, b) for a, b in combinations(per_seed, 2) if _numbers(per_seed[a]) and _numbers(per_seed[b])]
    rest = [(a, b) for a, b in combinations(per_seed, 2) if (a, b) not in both]
    found = [paired_difference(per_seed[a], per_seed[b]) for a, b in both]
    exact = [_exact(per_seed[a], per_seed[b]) for a, b in both]
    # Holm's correction of the t test; the exact test is too coarse to be corrected for many pairs, and need not
    # be, since it only ever takes a claim back.
    corrected = [max(p, e) for p, e in zip(holm([d.p for d in found]), exact, strict=True)]
    return [
        {"a": a, "b": b, "difference": d.mean, "low": d.low, "high": d.high, "p": max(d.p, e), "p_holm": p}
        for (a, b), d, e, p in zip(both, found, exact, corrected, strict=True)
    ] + [
        {"a": a, "b": b, **dict.fromkeys(["difference", "low", "high"], math.nan), "p": 1.0, "p_holm": 1.0}
        for a, b in rest
    ]


def _exact(a: Sequence[float], b: Sequence[float]) -> float:
    return sign_flip([x - y for x, y in zip(a, b, strict=True)]) if 6 <= len(a) <= 20 else 0.0


def beats(a: str, b: str, compared: Sequence[Mapping[str, Any]], direction: str) -> bool:
    """Says whether ``a`` beats ``b`` beyond doubt."""
    pair = next(p for p in compared if {p["a"], p["b"]} == {a, b})
    sign = (1 if direction == "max" else -1) * (1 if pair["a"] == a else -1)
    return pair["p_holm"] < ALPHA and sign * pair["difference"] > 0


def decide(
    per_seed: Mapping[str, Sequence[float]],
    direction: str,
    metric: str,
    costs: Mapping[str, Cost] | None = None,
    goal: str = "",
) -> Verdict:
    """Returns the verdict on the strategies' scores, ``{name: [score of each seed]}``.

    ``costs`` says what the strategies that reached the goal paid for it; the sentence names the winner's, or
    the least of those that tie.

    >>> runs = {"adam": [0.97, 0.98, 0.96], "sgd": [0.41, 0.43, 0.40]}
    >>> decide(runs, "max", "accuracy").winner
    'adam'
    """
    if without := [name for name, scores in per_seed.items() if not _numbers(scores)]:
        return Verdict(None, [], f"No verdict: the test {metric} of {_listed(without)} is not a number.")
    compared = pairs(per_seed)
    paid = costs or {}
    means = {name: sum(scores) / len(scores) for name, scores in per_seed.items()}
    sign = -1 if direction == "max" else 1
    ranked = sorted(means, key=lambda name: sign * means[name])
    best, seeds = ranked[0], len(per_seed[ranked[0]])
    if len(ranked) == 1:
        return Verdict(None, [best], f"Only {best} was run, so there is nothing to compare it with.")
    tied = [name for name in ranked if name == best or not beats(best, name, compared, direction)]
    if len(tied) > 1:
        sentence = f"Tie: {_listed(tied)} cannot be told apart by test {metric} ({_seeds(seeds)})"
        beaten = [name for name in ranked if name not in tied]
        sentence += f"; {best} is better than {_listed(beaten)}" if beaten else ""
        soonest = min((name for name in tied if name in paid), key=lambda name: paid[name].seconds, default=None)
        sentence += (
            f"; of the tied strategies, {soonest} is the first to reach {goal}, {paid[soonest]}" if soonest else ""
        )
        return Verdict(None, tied, sentence + ".")
    second = next(p for p in compared if {p["a"], p["b"]} == {best, ranked[1]})
    low, high = sorted(abs(bound) for bound in (second["low"], second["high"]))
    largest = max(p["p_holm"] for p in compared if best in (p["a"], p["b"]))
    side = "above" if direction == "max" else "below"
    sentence = (
        f"{best} is best: test {metric} {means[best]:.4g}, {abs(second['difference']):.2g} "
        f"{side} {ranked[1]} (95 % interval {low:.2g} to {high:.2g}; {_seeds(seeds)}, p {_p(largest)} "
        "against every other strategy after Holm's correction)"
    )
    sentence += f"; it reaches {goal} {paid[best]}" if best in paid else ""
    return Verdict(best, [], sentence + ".")


def parse_expectation(text: str, names: Sequence[str]) -> tuple[str, str, str]:
    """Returns (a, "beats" or "ties", b) of ``"a beats b"`` or ``"a ties b"``.

    Raises:
        ValueError: another form, or a strategy that is not compared.

    >>> parse_expectation("adam beats sgd", ["adam", "sgd"])
    ('adam', 'beats', 'sgd')
    """
    words = text.split()
    if len(words) != 3 or words[1] not in ("beats", "ties"):
        raise ValueError(f'cannot read the expectation {text!r}: write "adam beats sgd" or "adam ties sgd"')
    a, verb, b = words
    for name in (a, b):
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the strategies are {', '.join(names)}"
            raise ValueError(f"expectation {text!r}: {name!r} is not compared: {hint}")
    if a == b:
        raise ValueError(f"expectation {text!r}: name two different strategies")
    return a, verb, b


def check_expectation(text: str, compared: Sequence[Mapping[str, Any]], direction: str) -> bool:
    """Says whether the pairs bear out the expectation; "ties" means that neither beats the other, both with scores."""
    names = list(dict.fromkeys(name for p in compared for name in (p["a"], p["b"])))
    a, verb, b = parse_expectation(text, names)
    if verb == "beats":
        return beats(a, b, compared, direction)
    gap = next(p["difference"] for p in compared if {p["a"], p["b"]} == {a, b})
    return (
        gap is not None
        and math.isfinite(gap)
        and not beats(a, b, compared, direction)
        and not beats(b, a, compared, direction)
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def _numbers(scores: Sequence[float]) -> bool:
    return all(map(math.isfinite, scores))


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.2g}"
