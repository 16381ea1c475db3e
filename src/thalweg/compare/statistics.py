"""How sure: intervals that cover with few seeds, paired differences, Holm's correction, expected best at k.

With ten seeds a percentile bootstrap covers too seldom, and a studentized one has no bound where one seed
stands out. Intervals here are Student's, ``mean ± t s/√n``; a pair is told apart by the paired t test, which
:func:`sign_flip` checks exactly, without any assumption on the distribution.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit  # of Student's t; scipy.stats takes a second to import

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean and its 95 % interval; bounds are NaN where one value is all there is."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """A paired difference with its 95 % interval and two-sided p-value."""

    mean: float
    low: float
    high: float
    p: float


def mean_interval(values: Sequence[float], within: tuple[float, float] = (-math.inf, math.inf)) -> Interval:
    """Returns the mean of the values and a 95 % interval for the mean of their population.

    The interval is cut to what is possible, ``within``, which takes nothing from its coverage.

    >>> [round(x, 3) for x in mean_interval([1.0, 2.0, 3.0, 4.0])]
    [2.5, 0.446, 4.554]

    Source: Student 1908.
    """
    x = np.asarray(values, dtype=np.float64)
    mean = float(x.mean())
    if len(x) < 2:
        return Interval(mean, math.nan, math.nan)
    error = float(x.std(ddof=1)) / math.sqrt(len(x))
    half = float(stdtrit(len(x) - 1, (1 + LEVEL) / 2)) * error
    return Interval(mean, max(mean - half, within[0]), min(mean + half, within[1]))


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Returns mean(a) − mean(b) over pairs, its interval, and the two-sided p of the paired t test.

    Where all differences are equal and not zero, the t test has nothing to divide by; p is then that of the
    sign test, 2^(1−n), so that two equal seeds prove nothing. A single pair has p = 1.

    >>> round(paired_difference([1.0, 2.0, 4.0], [0.5, 1.0, 2.0]).p, 3)
    0.118
    """
    d = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    interval, n = mean_interval(d.tolist()), len(d)
    if n < 2 or not np.any(d):
        return Difference(*interval, 1.0)
    error = float(d.std(ddof=1)) / math.sqrt(n)
    if error <= 1e-12 * abs(interval.mean):
        return Difference(*interval, 2.0 ** (1 - n))
    return Difference(*interval, float(2 * stdtr(n - 1, -abs(interval.mean) / error)))


def sign_flip(differences: Sequence[float]) -> float:
    """Returns the exact two-sided p of the mean difference under random signs, for at most 20 pairs.

    Under the hypothesis that two strategies are the same, swapping their names within a seed changes nothing,
    so every pattern of signs is equally likely, whatever the distribution.

    >>> sign_flip([1.0, 2.0, 3.0])
    0.25

    Source: Fisher 1935, §21.

    Raises:
        ValueError: more than 20 pairs.
    """
    d = np.asarray(differences, dtype=np.float64)
    if len(d) > 20:
        raise ValueError(f"{len(d)} pairs have too many patterns of signs: use the t test")
    sums = np.zeros(1)
    for value in d:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= abs(d.sum()) - 1e-12 * np.abs(d).sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the p-values corrected for their number by Holm's step-down method, in their order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Source: Holm 1979.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def expected_best(scores: Sequence[float | None], direction: str) -> list[float | None]:
    """Returns the expected best of k of the N scores drawn without replacement, for k = 1 … N.

        E_k = Σ_i v_(i) C(i − 1, k − 1) / C(N, k),   v_(1) the worst

    None, a run that failed, counts as the worst score that is there.

    >>> [round(best, 3) for best in expected_best([1.0, 2.0, 3.0], "max")]
    [2.0, 2.667, 3.0]

    Source: Dodge et al. 2019, without replacement.
    """
    known = [s for s in scores if s is not None]
    if not known:
        return [None] * len(scores)
    worst = min(known) if direction == "max" else max(known)
    ranked = sorted((worst if s is None else s for s in scores), reverse=direction == "min")
    n = len(ranked)
    expected, k = np.zeros(n), np.arange(1, n + 1)
    weights = k / n  # C(i − 1, k − 1) / C(n, k) for i = n and every k; the binomials themselves pass all floats
    for i in range(n, 0, -1):
        expected[: len(weights)] += ranked[i - 1] * weights
        weights = weights[: i - 1] * ((i - k[: i - 1]) / max(1, i - 1))
    return [float(value) for value in expected]


def time_to_target(steps: Sequence[int], curve: Sequence[float], target: float, direction: str) -> int | None:
    """Returns the first step at which the curve meets the target, None when it never does.

    >>> time_to_target([10, 20, 30], [0.5, 0.9, 0.8], 0.85, "max")
    20
    """
    sign = 1 if direction == "max" else -1
    return next((step for step, value in zip(steps, curve, strict=True) if sign * value >= sign * target), None)


def median_and_band(rows: Sequence[Sequence[float | None]], worst: float) -> dict[str, list[float | None]]:
    """Returns the median and the quartiles of each row; None counts as ``worst``, and is where that is the answer.

    >>> median_and_band([[1.0, 2.0, 3.0, None], [1.0, None, None, None]], worst=math.inf)
    {'median': [2.5, None], 'low': [1.75, None], 'high': [None, None]}
    """
    bands: dict[str, list[float | None]] = {"median": [], "low": [], "high": []}
    for row in rows:
        ranked = sorted(worst if v is None else v for v in row)
        for name, q in (("median", 0.5), ("low", 0.25), ("high", 0.75)):
            at = q * (len(ranked) - 1)
            below, above = ranked[math.floor(at)], ranked[math.ceil(at)]
            value = below if below == above else below + (at - math.floor(at)) * (above - below)
            bands[name].append(value if math.isfinite(value) else None)
    return bands
