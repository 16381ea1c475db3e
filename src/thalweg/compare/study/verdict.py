"""The verdict: which strategies could be the best, which are behind, and how surely.

Each final run has a tuning and a seed of its own, so the paired runs of two strategies differ by both. A strategy is
behind when some other one beats it by two tests, in which a run that failed is lost: the exact one-sided signed-rank
test at the level min(0.0125, 0.05 / (K − 1)) of K strategies, and the mean gain is at least twice its standard error,
which includes the luck of tuning that all runs share. A strategy is also behind when it fails more often, by the exact
test at that level. All others could be the best. A run failed when it diverged, or covered less than a tenth of the way
from the untrained or the constant model to the best strategy's typical run.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from statistics import fmean, median, variance
from typing import Any

from thalweg.compare.statistics import luck_of_tuning, more_often, proportion, shift, signed_rank, typical

ALPHA = 0.05
MOST = 0.0125  # level of one comparison, however few there are
ERRORS = 2.0  # standard errors of the mean gain that count as clear
TRAINED = 0.1  # share of the way to the best typical run that a run covers if it trained
FAR = 1000  # seeds beyond which it is not said how many more would decide


@dataclass(frozen=True)
class Runs:
    """The final runs of one strategy, a seed at each position.

    Attributes:
        scores: test metric, None where the run diverged.
        failed: whether the run failed.
        steps: gradient evaluations to the target, None where it was not reached.
    """

    scores: Sequence[float | None]
    failed: Sequence[bool]
    steps: Sequence[int | None]


@dataclass(frozen=True)
class Judged:
    """What is compared, and how.

    Attributes:
        runs: of each strategy.
        direction: ``"max"`` or ``"min"`` of the metric.
        metric: its name.
        choices: of each strategy, the recommended configuration in words.
        within: the margin inside which strategies count as equivalent; None for a tenth of their spread.
        goal: what the time to target counts to, in words.
        is_tuned_apart: whether each run has a tuning of its own.
    """

    runs: Mapping[str, Runs]
    direction: str
    metric: str
    choices: Mapping[str, str] = field(default_factory=dict)
    within: float | None = None
    goal: str = ""
    is_tuned_apart: bool = True

    @property
    def level(self) -> float:
        """That of one comparison."""
        return min(MOST, ALPHA / max(1, len(self.runs) - 1))

    @property
    def seeds(self) -> int:
        """The number of final runs of a strategy."""
        return len(next(iter(self.runs.values())).scores)

    def typical(self, name: str) -> float:
        """Returns the typical score of a strategy's runs that trained; NaN where none did."""
        return typical(trained(self.runs[name])).mean

    def gains(self, a: str, b: str) -> list[float]:
        """Returns by how much ``a`` is better than ``b`` on each seed; infinite where one of them alone failed."""
        sign, one, two = 1 if self.direction == "max" else -1, self.runs[a], self.runs[b]
        found = []
        for x, y, lost, won in zip(one.scores, two.scores, one.failed, two.failed, strict=True):
            if lost or won:
                found.append(0.0 if lost and won else -math.inf if lost else math.inf)
            else:
                assert x is not None
                assert y is not None
                found.append(sign * (x - y))
        return found

    def beats(self, a: str, b: str) -> bool:
        """Says whether ``a`` is better than ``b``, or fails less often, at the level of one comparison."""
        apart = [p - q for p, q in zip(self.runs[b].failed, self.runs[a].failed, strict=True)]
        if more_often(apart.count(1), apart.count(-1)) <= self.level:
            return True
        return self.clearly(self.gains(a, b), self.level)

    def clearly(self, gains: Sequence[float], level: float) -> bool:
        """Says whether gains are above zero beyond the luck of seeds and, where each run has its own, of tuning."""
        if signed_rank(gains) > level:
            return False
        if not self.is_tuned_apart:
            return True
        most = max((abs(g) for g in gains if math.isfinite(g)), default=1.0) or 1.0
        finite = [min(max(g, -most), most) for g in gains]
        error = math.sqrt(max(variance(finite) / len(finite), luck_of_tuning(finite)))
        return fmean(finite) >= ERRORS * error


def trained(runs: Runs) -> list[float | None]:
    """Returns the scores of the runs that trained, None for the others."""
    return [None if failed else x for x, failed in zip(runs.scores, runs.failed, strict=True)]


def failed(
    scores: Mapping[str, Sequence[float | None]], direction: str, untrained: Mapping[str, Sequence[float]]
) -> dict[str, list[bool]]:
    """Returns which runs of each strategy failed.

    Arguments:
        scores: test metric of each run, None where it diverged.
        direction: of the metric.
        untrained: of each strategy, scores of models that learned nothing; the median untrained model and the best
            constant one are what a run has to get away from.

    >>> failed({"a": [0.9, 0.1, None], "b": [0.8, 0.8, 0.7]}, "max", {"a": [0.1], "b": [0.1]})
    {'a': [False, True, True], 'b': [False, False, False]}
    """
    sign = 1 if direction == "max" else -1
    ends = [sign * median(known) for s in scores.values() if (known := [x for x in s if x is not None])]
    best = max(ends, default=math.nan)
    found = {}
    for name, own in scores.items():
        start = max((sign * x for x in untrained[name] if math.isfinite(x)), default=-math.inf)
        least = start + TRAINED * (best - start) if math.isfinite(start) and best > start else start
        found[name] = [x is None or sign * x <= least for x in own]
    return found


def pairs(judged: Judged) -> list[dict[str, Any]]:
    """Returns of every pair the typical a − b, its 95 % interval, the two-sided p, and which is better."""
    sign, found = 1 if judged.direction == "max" else -1, []
    for a, b in combinations(judged.runs, 2):
        gains = judged.gains(a, b)
        estimate = shift([sign * g for g in gains])
        better = a if judged.beats(a, b) else b if judged.beats(b, a) else None
        p = min(1.0, 2 * min(signed_rank(gains), signed_rank([-g for g in gains])))
        found.append(
            {"a": a, "b": b, "difference": estimate.mean, "low": estimate.low, "high": estimate.high, "p": p}
            | {"better": better}
        )
    return found


@dataclass(frozen=True)
class Behind:
    """A strategy that another one beats.

    Attributes:
        name: of the strategy.
        beaten_by: the strategy that beats it most surely.
        lost: runs lost to that one.
        runs: number of runs.
        typically: by how much it is worse; infinite where it mostly failed.
        at_least: by how much at least, at the level of one comparison.
        p: of the comparison, one-sided.
    """

    name: str
    beaten_by: str
    lost: int
    runs: int
    typically: float
    at_least: float
    p: float


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


def decide(judged: Judged) -> Verdict:
    """Returns the verdict.

    >>> adam, sgd = [0.97, 0.98, 0.96, 0.97, 0.99, 0.98, 0.97], [0.41, 0.43, 0.40, 0.42, 0.39, 0.44, 0.41]
    >>> runs = {n: Runs(s, [False] * 7, [None] * 7) for n, s in {"adam": adam, "sgd": sgd}.items()}
    >>> decide(Judged(runs, "max", "accuracy", {"adam": "lr 0.01"})).sentence
    'Use adam (lr 0.01): every other strategy did worse.'
    """
    sign = -1 if judged.direction == "max" else 1
    levels = {name: judged.typical(name) for name in judged.runs}
    ranked = sorted(levels, key=lambda n: (math.isnan(levels[n]), sign * levels[n], sum(judged.runs[n].failed)))
    beaten = {b: [a for a in ranked if a != b and judged.beats(a, b)] for b in ranked}
    candidates = [name for name in ranked if not beaten[name]] or ranked[:1]
    behind = [_behind(judged, name, beaten[name]) for name in ranked if name not in candidates]
    if all(math.isnan(level) for level in levels.values()):
        return _none(ranked, "No strategy trained the model: every final run failed.", judged)
    if len(ranked) == 1:
        only = f"Only {ranked[0]} was run, so there is nothing to compare it with."
        return _none(ranked, only, judged)
    spread = [level for level in levels.values() if not math.isnan(level)]
    margin = judged.within if judged.within is not None else (max(spread) - min(spread)) / 10
    alike = [[a, b] for a, b in combinations(candidates, 2) if _equivalent(judged.gains(a, b), margin)]
    fastest = _fastest(judged, candidates)
    use = fastest or candidates[0]
    winner = use if len(candidates) == 1 else None
    needed = _least_seeds(judged.level)
    words = f"Use {use}" + (f" ({judged.choices[use]})" if judged.choices.get(use) else "")
    if winner:
        sentence = f"{words}: every other strategy did worse."
    elif judged.seeds < needed:
        least = f"it takes at least {needed} seeds to compare {len(ranked)} strategies (--seeds {needed})"
        sentence = f"No verdict: {least}."
    elif fastest:
        sentence = f"{words}: nothing tried is better, and it reaches the target in the fewest steps."
    else:
        sentence = f"{words}: nothing tried is better."
    details = _details(judged, candidates, behind, alike, fastest, margin, needed)
    tied = candidates if len(candidates) > 1 else []
    return Verdict(use, candidates, behind, winner, tied, fastest, alike, margin, sentence, details)


def _none(ranked: list[str], sentence: str, judged: Judged) -> Verdict:
    return Verdict(None, ranked, [], None, ranked, None, [], math.nan, sentence, [_failures(judged)])


def _behind(judged: Judged, name: str, by: Sequence[str]) -> Behind:
    """Returns the strategy with the one that beats it most surely."""
    best = min(by, key=lambda a: (signed_rank(judged.gains(a, name)), by.index(a)))
    gains = judged.gains(best, name)
    gap = shift(gains, 1 - 2 * judged.level)
    lost = sum(g > 0 for g in gains)
    return Behind(name, best, lost, len(gains), gap.mean, max(0.0, gap.low), signed_rank(gains))


def _equivalent(gains: Sequence[float], margin: float) -> bool:
    """Says whether two strategies differ by less than the margin: the 90 % interval lies inside it."""
    gap = shift(gains, 0.9)
    return -margin < gap.low and gap.high < margin


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

    level = min(MOST, ALPHA / (len(candidates) - 1))
    first = [a for a in candidates if all(judged.clearly(saved(a, b), level) for b in candidates if b != a)]
    return first[0] if first else None


def _details(
    judged: Judged,
    candidates: Sequence[str],
    behind: Sequence[Behind],
    alike: Sequence[Sequence[str]],
    fastest: str | None,
    margin: float,
    needed: int,
) -> list[str]:
    said = []
    if len(candidates) > 1:
        said.append(f"Could be the best here: {', '.join(candidates)}. These runs cannot say which.")
    if alike:
        known = "; ".join(" and ".join(pair) for pair in alike)
        said.append(f"Equivalent within ±{margin:.2g} {judged.metric} (90 % interval of the difference): {known}.")
    if behind:
        said.append(f"Behind: {'; '.join(map(_lost, behind))}.")
    if fastest:
        said.append(f"Of those that could be the best, {fastest} reaches {judged.goal} in the fewest steps, by test.")
    said.append(_failures(judged))
    if judged.seeds >= needed:
        said.append(
            "Each run had its own tuning, so this includes the luck of tuning."
            if judged.is_tuned_apart
            else "All runs of a strategy share one tuning, so this leaves out the luck of tuning."
        )
    if len(candidates) > 1 and (more := _more(judged, candidates)):
        said.append(more)
    return said


def _lost(one: Behind) -> str:
    size = f", typically by {one.typically:.2g}" if math.isfinite(one.typically) else ""
    least = f" and by at least {one.at_least:.2g}" if size and 0 < one.at_least < math.inf else ""
    return f"{one.name}, which lost to {one.beaten_by} on {one.lost} of {one.runs} runs{size}{least}"


def _failures(judged: Judged) -> str:
    """Returns which strategies failed, how often, and how often they may."""
    n = judged.seeds
    counts = {name: sum(runs.failed) for name, runs in judged.runs.items()}
    parts = []
    for name, count in counts.items():
        if count:
            low, high = proportion(count, n)
            parts.append(f"{name} {count} of {n} (true rate {100 * low:.0f} to {100 * high:.0f} %)")
    most = f"at most {100 * proportion(0, n)[1]:.0f} %"
    if not parts:
        return f"Failed runs: none (true rate {most})."
    others = f"; the others none ({most})" if len(parts) < len(counts) else ""
    return f"Failed runs: {', '.join(parts)}{others}."


def _more(judged: Judged, candidates: Sequence[str]) -> str:
    """Returns about how many seeds would tell the first candidate from another, if they are what they seem."""
    best = candidates[0]
    counts = {}
    for other in candidates[1:]:
        gains = [g for g in judged.gains(best, other) if math.isfinite(g)]
        mean = sum(gains) / len(gains) if gains else 0.0
        spread = math.sqrt(sum((g - mean) ** 2 for g in gains) / max(1, len(gains) - 1))
        # Normal quantiles of the level and of a power of 80 %.
        if mean > 0:
            counts[other] = math.ceil(((_quantile(judged.level) + 0.84) * spread / mean) ** 2)
    known = {other: count for other, count in counts.items() if judged.seeds < count <= FAR}
    if not known:
        return f"More seeds are unlikely to separate {best} from the others: they differ by less than their spread."
    other = min(known, key=lambda name: known[name])
    return f"About {known[other]} seeds (--seeds) would separate {best} from {other}, if they differ as these runs do."


def _quantile(level: float) -> float:
    from scipy.special import ndtri

    return float(-ndtri(level))


def _least_seeds(level: float) -> int:
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
    names = list(dict.fromkeys(name for p in compared for name in (p["a"], p["b"])))
    a, verb, b = parse_expectation(text, names)
    pair = next(p for p in compared if {p["a"], p["b"]} == {a, b})
    if verb == "beats":
        return bool(pair["better"] == a)
    return pair["better"] is None and pair["difference"] is not None
