"""Rules by which a look at a study that adds batches says that one strategy is better than another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import fmean, variance
from typing import Literal

from thalweg.compare.statistics import between_halves, luck_of_tuning, more_often, signed_rank
from thalweg.compare.study.judged import ERRORS, HALVES, Judged, level_of

EQUAL = (1 / 4,) * 4


@dataclass(frozen=True)
class Rule:
    """When a look says so.

    Attributes:
        name: of the rule.
        shares: of the level, at each look.
        errors: times the luck that the mean gain has to reach.
        luck: of tuning as it is estimated (``"now"``), the largest estimate of the looks so far (``"largest"``), or
            by how much the two halves lie apart (``"halves"``).
        failures: whether failing more often has to be clear beyond the luck of tuning, too.
        agreeing: whether the mean gain of each batch alone has to be above zero.
        twice: whether the look before has to say so, too.
        dropped: whether the runs of the first look count no more at those after it.
        by_library: whether it is that of the library.
    """

    name: str
    shares: tuple[float, ...] = EQUAL
    errors: float = ERRORS
    luck: Literal["now", "largest", "halves"] = "now"
    failures: bool = True
    agreeing: bool = False
    twice: bool = False
    dropped: bool = False
    by_library: bool = False


BUILT = Rule("as built: 2 times the distance of halves", by_library=True)
FORMER = Rule("2.5 standard errors (the rule of one look)", failures=False)
RULES = (
    Rule("4 standard errors", errors=4.0),
    Rule("an eighth of the level at each look", (1 / 8,) * 4),
    Rule("two looks, half of the level at each", (0, 1 / 2, 0, 1 / 2)),
    Rule("no look before 17 trials", (0, 1 / 3, 1 / 3, 1 / 3)),
    Rule("every batch agrees", agreeing=True),
    Rule("two looks in a row agree, half of the level", (1 / 2,) * 4, twice=True),
    Rule("2.75 standard errors, the largest of the looks", errors=2.75, luck="largest"),
    Rule("the same, an eighth of the level at each look", (1 / 8,) * 4, 2.75, "largest"),
    Rule("1.75 times the distance of halves", errors=1.75, luck="halves"),
    Rule("2 times, without the runs of the first look", errors=HALVES, luck="halves", dropped=True),
    BUILT,
)


@dataclass
class Looks:
    """Two strategies, ``a`` and ``b``, at all looks of a study, and how many runs these see."""

    judged: Sequence[Judged]
    stops: Sequence[int]
    _known: dict[tuple[int, str, str, int], tuple[float, float, list[float], list[float]]] = field(default_factory=dict)

    def first(self, rule: Rule, both: bool) -> int:
        """Returns the first look, from 0, that says that ``a`` is better, or with ``both`` that one of them is."""
        pairs = [("a", "b"), ("b", "a")][: 1 + both]
        found = ([self._says(rule, look, *pair) for pair in pairs] for look in range(len(self.judged)))
        before = [False] * len(pairs)
        for look, said in enumerate(found):
            if any(s and (p or not rule.twice) for s, p in zip(said, before, strict=True)):
                return look
            before = said
        return len(self.judged)

    def _says(self, rule: Rule, look: int, a: str, b: str) -> bool:
        judged = self.judged[look]
        if rule.by_library:
            return judged.beats(a, b)
        level = rule.shares[look] * level_of(len(judged.runs))
        dropped = self.stops[0] if rule.dropped and look else 0
        rank, oftener, gains, apart = self._of(look, a, b, dropped)
        stops = [0, *self.stops[: look + 1]]
        if rule.agreeing and not all(fmean(gains[i:j]) > 0 for i, j in pairwise(stops)):
            return False
        if oftener <= level and (not rule.failures or self._is_clear(rule, apart, stops)):
            return True
        return rank <= level and self._is_clear(rule, gains, stops)

    def _is_clear(self, rule: Rule, gains: Sequence[float], stops: Sequence[int]) -> bool:
        if rule.luck == "halves":
            luck = between_halves(gains)
        else:
            luck = max(luck_of_tuning(gains[:s]) for s in stops[1:] if rule.luck == "largest" or s == stops[-1])
        return fmean(gains) >= rule.errors * math.sqrt(max(variance(gains) / len(gains), luck))

    def _of(self, look: int, a: str, b: str, dropped: int) -> tuple[float, float, list[float], list[float]]:
        """Returns both p values, the gains without outliers, and by how many failures each pair differs."""
        if (look, a, b, dropped) not in self._known:
            judged = self.judged[look]
            if dropped:
                judged = part(judged, slice(dropped, None))
            one, two = judged.runs[a].failed, judged.runs[b].failed
            apart = [float(p) - float(q) for p, q in zip(two, one, strict=True)]
            oftener = more_often(apart.count(1.0), apart.count(-1.0))
            found = signed_rank(judged.gains(a, b)), oftener, judged.relative_gains(a, b), apart
            self._known[look, a, b, dropped] = found
        return self._known[look, a, b, dropped]


def part(whole: Judged, runs: slice) -> Judged:
    """Returns some runs of a study, of which it stays known which failed."""
    some = {
        name: replace(own, scores=own.scores[runs], failed=own.failed[runs], steps=own.steps[runs])
        for name, own in whole.runs.items()
    }
    return replace(whole, runs=some)
