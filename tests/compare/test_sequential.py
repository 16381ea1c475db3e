"""Bounds that hold at every look, held to their formula and to simulated sequences; evidence of failures."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from thalweg.compare import sequential as s

NOISE = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "uniform": lambda rng, shape: rng.random(shape),
    "heavy": lambda rng, shape: rng.standard_t(3, shape),
    "skewed": lambda rng, shape: rng.exponential(size=shape),
    "ties": lambda rng, shape: rng.integers(0, 3, shape).astype(float),
    "collapsed": lambda rng, shape: np.where(rng.random(shape) < 0.2, -20.0, rng.standard_normal(shape)),
}
scores = st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)).map(lambda p: np.round(p, 3)), min_size=4, max_size=30)


def slow(x, y, h):
    """The bounds in the notation of the docstring, in plain Python."""
    n, d = len(x), [b - a for a, b in zip(x, y, strict=True)]
    mean = sum(d) / n

    def variance(values):
        return sum((v - sum(values) / n) ** 2 for v in values) / (n - 1)

    s_d, s_u = math.sqrt(variance(d) + h * h / 6), math.sqrt(variance(x) + variance(y) + h * h / 6)
    found = []
    for level in (s.LOWER, s.UPPER):
        p = level * min(1, (10 / n) ** 2)
        found.append(min(stats.t.isf(p, n - 1) * s_d, stats.t.isf(p, 2 * n - 2) * s_u) / math.sqrt(n))
    return mean, mean - found[0], mean + found[1]


@settings(max_examples=25)
@given(scores, st.sampled_from([0.0, 0.5]))
def test_the_bounds_are_those_of_the_formula(pairs, h):
    x, y = np.array(pairs).T
    assert tuple(map(float, s.difference(x, y, h))) == pytest.approx(slow(x, y, h), abs=1e-9)


@settings(max_examples=25)
@given(scores, st.floats(-3, 3), st.floats(0.1, 10))
def test_the_bounds_move_with_the_scores(pairs, by, factor):
    x, y = np.array(pairs).T
    plain = np.array(s.difference(x, y))
    assert np.array(s.difference(x * factor, (y + by) * factor)) == pytest.approx((plain + by) * factor, abs=1e-6)
    assert np.array(s.difference(x + by, y + by)) == pytest.approx(plain, abs=1e-6)


def test_few_pairs_have_no_bounds_and_many_gates_are_judged_at_once():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 5, 3))
    assert np.isinf(s.difference(x, y).low).all()
    x, y = rng.standard_normal((2, 5, 7))
    together = s.difference(x, y)
    assert [float(v) for v in together.low] == [float(s.difference(a, b).low) for a, b in zip(x, y, strict=True)]


@pytest.mark.parametrize("name", sorted(NOISE))
def test_a_mere_change_of_seed_is_seldom_taken_for_one_however_often_one_looks(name):
    rng, gates, most = np.random.default_rng(1), 4000, 30
    x, y = (NOISE[name](rng, (gates, most)) for _ in range(2))
    better, worse = np.zeros(gates, bool), np.zeros(gates, bool)
    for n in range(s.LEAST, most + 1):
        found = s.difference(x[:, :n], y[:, :n], 1.0 if name == "ties" else 0.0)
        better, worse = better | (found.low > 0), worse | (found.high < 0)
    assert better.mean() <= 0.05
    assert (better | worse).mean() <= 0.055  # 5 %, and two standard errors of so many gates


@pytest.mark.parametrize(("correlation", "least", "most"), [(0.0, 0.8, 7.0), (0.95, 0.65, 8.0)])
def test_a_gain_is_found_with_fewer_pairs_than_ten(correlation, least, most):
    rng, gates = np.random.default_rng(2), 4000
    shared = math.sqrt(correlation) * rng.standard_normal((gates, 10))
    x, y = (shared + math.sqrt(1 - correlation) * rng.standard_normal((gates, 10)) for _ in range(2))
    y += 3.5 / math.sqrt(10) * math.sqrt(2 * (1 - correlation))
    first = np.full(gates, 10)
    found = np.zeros(gates, bool)
    for n in range(s.LEAST, 11):
        now = (s.difference(x[:, :n], y[:, :n]).low > 0) & ~found
        first[now], found = n, found | now
    assert found.mean() >= least
    assert first.mean() <= most


@pytest.mark.parametrize(("step", "count"), [(1 / 360, 360), (0.025, 40), (0.5, 7)])
def test_the_step_of_a_share_is_found(step, count):
    k = np.array([0, 2, 3, 7, 5])
    assert s.resolution_of((count - k) * step) == pytest.approx(step)
    assert s.resolution_of(((count - k) * step).astype(np.float32)) == pytest.approx(step, rel=1e-3)


def test_scores_that_vary_freely_have_next_to_no_step():
    assert s.resolution_of(np.random.default_rng(0).standard_normal(8)) < 1e-4
    assert s.resolution_of([]) == s.resolution_of([0.3]) == 0.0


def test_equal_gains_of_one_step_are_not_taken_for_exact():
    x = np.array([0.9, 0.925, 0.9, 0.95])
    exact, rounded = s.difference(x, x + 0.025), s.difference(x, x + 0.025, 0.025)
    assert float(exact.low) == pytest.approx(0.025)
    assert float(rounded.low) < 0 < float(s.difference(x, x + 0.1, 0.025).low)


def test_evidence_of_failures_is_the_product_of_ratios():
    baseline, candidate = [False, False, True, False], [True, False, True, True]
    expected = 1.0
    for i in range(4):
        b, c = ((sum(side[:i]) + 0.18) / (i + 0.36) for side in (baseline, candidate))
        m = (b + c) / 2
        for rate, failed in ((b, baseline[i]), (c, candidate[i])):
            expected *= rate / m if failed else (1 - rate) / (1 - m)
    assert s.fails_more_often(baseline, candidate) == pytest.approx(expected)
    assert s.fails_more_often(candidate, baseline) == pytest.approx(expected)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_sides_that_fail_alike_are_seldom_told_apart(rate):
    rng = np.random.default_rng(3)
    runs = rng.random((200, 2, 20)) < rate
    above = [any(s.fails_more_often(x[:n].tolist(), y[:n].tolist()) >= s.FAILS for n in range(4, 21)) for x, y in runs]
    assert np.mean(above) <= 1 / s.FAILS + 0.02


def test_a_side_that_always_fails_is_known_after_four_runs():
    one, two = [False] * 4, [True] * 4
    assert s.fails_more_often(one[:3], two[:3]) < s.FAILS <= s.fails_more_often(one, two)
