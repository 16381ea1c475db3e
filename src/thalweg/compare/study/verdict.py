"""The verdict: which strategies could be the best, which are behind, and how surely.

Each final run has a tuning and a seed of its own, so the paired runs of two strategies differ by both. A strategy is
behind when some other one beats it by two tests, in which a run that failed is lost: the exact one-sided signed-rank
test at the level min(0.0125, 0.05 / (K − 1)) of K strategies, and the mean gain is at least 2.5 times its standard
error, which includes the luck of tuning that all runs share; the extreme tenths of the gains are drawn in. A strategy
is also behind when it fails more often, by the exact test at that level. All others could be the best. A run failed
when it diverged, or covered less than a tenth of the way from the better of the untrained and the best constant model
to the best strategy's typical run; a model that is given with its weights is no measure.

A study that adds trials and runs is judged several times, each time at an equal share of the level. The mean gain is
then compared with twice the distance of the halves' runs from their middle, also where failing is told apart, and the
runs of the first look say which runs failed.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from thalweg.compare.statistics import Interval, shift, signed_rank
from thalweg.compare.study.headline import headline, refusal
from thalweg.compare.study.judged import Behind, Judged, level_of, trained
from thalweg.compare.study.sentences import about_runs, details, impossible


def pairs(judged: Judged) -> list[dict[str, Any]]:
    """Returns of every pair the typical a − b, its 95 % interval, the two-sided p, and which is better.

    ``runs`` are the seeds on which both trained; the difference is NaN where there is none.
    """
    sign, found = 1 if judged.direction == "max" else -1, []
    for a, b in combinations(judged.runs, 2):
        gains = judged.gains(a, b)
        ends = zip(*(trained(judged.runs[n]) for n in (a, b)), strict=False)
        both = sum(x is not None and y is not None for x, y in ends)
        estimate = shift([sign * g for g in gains]) if both else Interval(math.nan, math.nan, math.nan)
        measured = not {a, b} & {*judged.unmeasured}
        better = next((x for x, y in ((a, b), (b, a)) if measured and judged.beats(x, y)), None)
        p = min(1.0, 2 * min(signed_rank(judged.sure_gains(a, b)), signed_rank(judged.sure_gains(b, a))))
        found.append(
            {"a": a, "b": b, "difference": estimate.mean, "low": estimate.low, "high": estimate.high, "p": p}
            | {"better": better, "runs": both}
        )
    return found


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
        use: the strategy to use; None where none trained, or none was compared.
        candidates: those that could be the best.
        behind: the others.
        winner: the only candidate, if it beat all others; else None.
        tied: the candidates where there are several.
        fastest: the candidate that reaches the target in fewer steps than every other one, by the test; else None.
        equivalent: pairs of candidates that differ by less than ``margin``, by two one-sided tests.
        margin: inside which strategies count as equivalent.
        sentence: what to use, in at most 20 words.
        details: the sentences after it.
    """

    use: str | None
    candidates: list[str]
    behind: list[Behind]
    winner: str | None
    tied: list[str]
    fastest: str | None
    equivalent: list[list[str]]
    margin: float
    sentence: str
    details: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain values."""
        return asdict(self)

    @property
    def is_decided(self) -> bool:
        """Whether more runs have nothing left to decide: one candidate, or all of them equivalent."""
        return len(self.equivalent) == math.comb(len(self.candidates), 2)


def decide(judged: Judged) -> Verdict:
    """Returns the verdict.

    >>> from thalweg.compare.study.judged import Runs
    >>> adam, sgd = [0.97, 0.98, 0.96, 0.97, 0.99, 0.98, 0.97], [0.41, 0.43, 0.40, 0.42, 0.39, 0.44, 0.41]
    >>> runs = {n: Runs(s, [False] * 7, [None] * 7) for n, s in {"adam": adam, "sgd": sgd}.items()}
    >>> decide(Judged(runs, "max", "accuracy", {"adam": "lr 0.01"})).sentence
    'Use adam (lr 0.01): every other strategy did worse.'
    """
    sign = -1 if judged.direction == "max" else 1
    levels = {name: judged.typical(name) for name in judged.runs}
    ties = {name: judged.ties.get(name, 0.0) for name in levels}
    ranked = sorted(
        levels, key=lambda n: (math.isnan(levels[n]), sign * levels[n], sum(judged.runs[n].failed), ties[n])
    )
    beaten = {b: [a for a in ranked if a != b and judged.beats(a, b)] for b in ranked}
    longest = [name for name in ranked if len(judged.runs[name].scores) == judged.seeds]
    candidates = [name for name in ranked if not beaten[name]] or longest[:1]
    behind = [_behind(judged, name, beaten[name]) for name in ranked if name not in candidates]
    if why := refusal(judged, ranked):
        return _none(ranked, why, judged)
    spread = [level for level in levels.values() if math.isfinite(level)] or [0.0]
    margin = judged.within if judged.within is not None else (max(spread) - min(spread)) / 10
    alike = [[a, b] for a, b in combinations(candidates, 2) if judged.is_equivalent(a, b, margin)]
    fastest = None if judged.is_timed else _fastest(judged, candidates)
    use = fastest or candidates[0]
    winner = candidates[0] if len(candidates) == 1 else None
    needed = least_seeds(judged.level)
    sentence = headline(judged, use, candidates, [one.name for one in behind], fastest, needed)
    said = details(judged, candidates, behind, alike, fastest, margin, needed)
    tied = candidates if len(candidates) > 1 else []
    named = None if judged.seeds < needed and not winner else use
    return Verdict(named, candidates, behind, winner, tied, fastest, alike, margin, sentence, said)


def _none(ranked: list[str], sentence: str, judged: Judged) -> Verdict:
    said = [*impossible(judged), *about_runs(judged)]
    return Verdict(None, ranked, [], None, ranked, None, [], math.nan, sentence, said)


def _behind(judged: Judged, name: str, by: Sequence[str]) -> Behind:
    """Returns the strategy with the one that beats it most surely."""
    best = min(by, key=lambda a: (signed_rank(judged.sure_gains(a, name)), by.index(a)))
    gains = judged.gains(best, name)
    gap, sure = shift(gains, 1 - 2 * judged.level), judged.sure_gains(best, name)
    lost = sum(g > 0 for g in gains)
    least = max(0.0, shift(sure, 1 - 2 * judged.level).low)
    return Behind(name, best, lost, len(gains), gap.mean, least, signed_rank(sure))


def _fastest(judged: Judged, candidates: Sequence[str]) -> str | None:
    """Returns the candidate that reaches the target in fewer steps than every other, by the test; None without one."""
    if len(candidates) < 2:
        return None

    def saved(a: str, b: str) -> list[float]:
        found = []
        for x, y in zip(judged.runs[a].steps, judged.runs[b].steps, strict=True):
            one, two = (math.inf if s is None else float(s) for s in (x, y))
            found.append(0.0 if one == two else two - one)
        return found

    level = level_of(len(candidates), judged.looks)
    first = [a for a in candidates if all(judged.clearly(saved(a, b), level) for b in candidates if b != a)]
    return first[0] if first else None


def least_seeds(level: float) -> int:
    """Returns the least number of pairs with which the exact test can reach the level."""
    return math.ceil(-math.log2(level))


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


def check_expectation(text: str, compared: Sequence[Mapping[str, Any]]) -> bool:
    """Says whether the pairs bear out the expectation; "ties" means that neither is better, and both trained."""
    a, verb, b = parse_expectation(text, text.split())
    pair = next((p for p in compared if {p["a"], p["b"]} == {a, b}), None)
    if pair is None:  # one of them could not run
        return False
    if verb == "beats":
        return bool(pair["better"] == a)
    return pair["better"] is None and pair["runs"] > 0
