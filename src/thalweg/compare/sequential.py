"""How sure after any number of runs: bounds that hold at every look, so that one may stop whenever it is sure.

Paired runs come one by one. The bounds on their mean difference hold at all looks together, and so does what is said of
failures. A change that does nothing leaves the runs of the two sides exchangeable; that it is called better or worse
has a chance of at most 5 %, however often one looks and whenever one stops.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

LEAST = 4  # pairs with which a bound is first given
FLAT = 10  # pairs up to which all looks have the same level
LOWER, UPPER = 0.0057, 0.0008  # levels of one such look, with which all looks together come to 4 and 1 %
PRIOR = 0.18  # pseudo-counts of failing and of training
FAILS = 36.0  # evidence at which one side fails more often

Array = NDArray[np.float64]


class Bounds(NamedTuple):
    """A mean difference, and bounds that hold at every look; infinite where there are too few pairs."""

    mean: Array
    low: Array
    high: Array


def difference(baseline: ArrayLike, candidate: ArrayLike, resolution: float = 0.0) -> Bounds:
    """Returns the mean of candidate − baseline, and bounds on its expectation that hold at every look.

        low = d̄ − c(p₋),  high = d̄ + c(p₊),  p = p₁₀ min(1, (10/n)²)
        c(p) = min(t_{n−1}(1−p) s_d, t_{2n−2}(1−p) s_u) / √n,  s_u² = s_x² + s_y²

    s_d is the standard deviation of the differences, s_x and s_y are those of the sides: one of the two is the better
    where the sides go together under a seed, the other where they do not. To all variances h²/6 is added, the part
    that rounding both to multiples of the ``resolution`` h has in a difference. The levels p₁₀ of a look are chosen by
    simulation of all looks, from 4 pairs on: the lower bound fails in at most 4 %, the upper in at most 1 % of
    sequences, where the two sides have one distribution, whatever its shape, see the benchmark of the gate.

    Arguments:
        baseline, candidate: scores ``(…, n)``, of which larger is better; the last axis is that of the seeds.
        resolution: step of the scores, see :func:`resolution_of`.

    Returns:
        arrays ``(…)``.

    >>> found = difference([0.90, 0.91, 0.89, 0.90, 0.92], [0.95, 0.97, 0.94, 0.96, 0.96])
    >>> round(float(found.mean), 3), round(float(found.low), 3), round(float(found.high), 3)
    (0.052, 0.035, 0.08)

    Source: repeated confidence intervals, Jennison and Turnbull 1989, by Student's t.
    """
    x, y = np.asarray(baseline, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    n = x.shape[-1]
    mean = (y - x).mean(axis=-1)
    if n < LEAST:
        return Bounds(mean, np.full_like(mean, -np.inf), np.full_like(mean, np.inf))
    rounding = resolution**2 / 6
    paired = np.sqrt((y - x).var(axis=-1, ddof=1) + rounding)
    apart = np.sqrt(x.var(axis=-1, ddof=1) + y.var(axis=-1, ddof=1) + rounding)

    def reach(level: float) -> Array:
        p = level * min(1.0, (FLAT / n) ** 2)
        both = stdtrit(n - 1, 1 - p) * paired, stdtrit(2 * n - 2, 1 - p) * apart
        return np.asarray(np.minimum(*both) / np.sqrt(n))

    return Bounds(mean, mean - reach(LOWER), mean + reach(UPPER))


def resolution_of(scores: ArrayLike) -> float:
    """Returns the step of which all differences of scores are multiples, as those of an accuracy are; 0 without one.

    Differences of less than a millionth of the scores are rounding.

    >>> round(resolution_of([0.925, 0.975, 0.95, 0.85]), 6), resolution_of([0.5, 0.5])
    (0.025, 0.0)

    Source: Euclid's algorithm.
    """
    values = np.unique(np.asarray(scores, dtype=np.float64))
    least = 1e-6 * float(np.abs(values).max(initial=0.0))
    step = 0.0
    for gap in np.diff(values).tolist():
        a, b = max(step, gap), min(step, gap)
        while b > least:
            rest = a % b
            a, b = b, min(rest, b - rest)
        step = a if a > least else step
    return step


def fails_more_often(baseline: Sequence[bool], candidate: Sequence[bool]) -> float:
    """Returns the evidence that the sides fail at different rates: above 36 it is enough.

        E = Π_i b̂^{x_i} (1−b̂)^{1−x_i} ĉ^{y_i} (1−ĉ)^{1−y_i} / (m̂^{x_i+y_i} (1−m̂)^{2−x_i−y_i}),  m̂ = (b̂ + ĉ)/2

    x and y are 1 for a run that failed; the rates b̂ and ĉ are estimated from the runs before. Where the sides fail
    equally often, and not on opposite seeds, E has at each look an expectation of at most 1 and exceeds 36 at any look
    with a chance of at most 1/36.

    >>> found = [round(fails_more_often([False] * n, [True] * n), 1) for n in (1, 3, 4)]
    >>> found, fails_more_often([False, True], [True, False]) < 1
    ([1.0, 10.3, 36.8], True)

    Source: Turner, Ly and Grünwald 2024, "Generic E-variables for exact sequential k-sample tests".
    """
    evidence, lost_before, failed_before = 1.0, 0, 0
    for i, (lost, failed) in enumerate(zip(baseline, candidate, strict=True)):
        b, c = ((count + PRIOR) / (i + 2 * PRIOR) for count in (lost_before, failed_before))
        m = (b + c) / 2
        one, two = (b / m, c / m), ((1 - b) / (1 - m), (1 - c) / (1 - m))
        evidence *= (one[0] if lost else two[0]) * (one[1] if failed else two[1])
        lost_before, failed_before = lost_before + lost, failed_before + failed
    return evidence
