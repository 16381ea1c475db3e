"""Student's intervals and tests, of means and of pairs, by which benchmarks and the gallery judge; no verdict does."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from thalweg.compare.statistics import LEVEL, Interval


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
    half = float(stdtrit(len(x) - 1, (1 + LEVEL) / 2)) * float(x.std(ddof=1)) / math.sqrt(len(x))
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
