"""Intervals that cover, and tests that count every pattern."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from thalweg.compare import statistics as s

scores = st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=2, max_size=12)


ties = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=9)


@given(ties)
def test_signed_rank_counts_every_pattern_of_signs_also_with_ties_and_zeros(d):
    ranks = stats.rankdata(np.abs(d)) * (np.array(d) != 0)
    won = ranks[np.array(d) > 0].sum()
    sums = [sum(r for r, up in zip(ranks, p, strict=True) if up) for p in itertools.product((0, 1), repeat=len(d))]
    assert s.signed_rank(d) == pytest.approx(np.mean(np.array(sums) >= won - 1e-9))


@given(st.lists(st.floats(-1, 1), min_size=5, max_size=40, unique_by=abs))
def test_signed_rank_is_scipys_where_nothing_is_equal(d):
    if 0.0 not in d:
        assert s.signed_rank(d) == pytest.approx(stats.wilcoxon(d, alternative="greater", method="exact").pvalue)


def test_signed_rank_of_many_pairs_is_near_the_exact_one():
    rng = np.random.default_rng(0)
    d = rng.normal(0.1, 1, 200)
    assert s.signed_rank(d.tolist()) == pytest.approx(stats.wilcoxon(d, alternative="greater").pvalue, rel=0.05)
    assert s.signed_rank([0.0] * 100) == 1.0


def test_a_lost_run_is_the_largest_difference():
    assert s.signed_rank([math.inf, 1.0, 2.0]) == s.signed_rank([9.0, 1.0, 2.0])
    assert s.signed_rank([-math.inf] + [1.0] * 9) > s.signed_rank([-0.5] + [1.0] * 9)


@given(st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=6, max_size=15), st.floats(-3, 3))
def test_the_interval_of_a_shift_holds_what_the_test_does_not_refuse(d, by):
    found = s.shift(d)
    assert found.low <= found.mean <= found.high
    i, j = np.triu_indices(len(d))
    assert found.mean == pytest.approx(np.median((np.array(d)[i] + np.array(d)[j]) / 2))
    moved = s.shift([x + by for x in d])
    assert (moved.low, moved.high) == pytest.approx((found.low + by, found.high + by))
    if len({*np.abs(d)}) == len(d) and math.isfinite(found.low):
        assert s.signed_rank([x - found.low - 1e-6 for x in d]) > 0.025
        assert s.signed_rank([x - found.low + 1e-6 for x in d]) <= 0.025


def test_a_shift_of_few_pairs_has_no_bounds():
    assert s.shift([1.0, 2.0, 3.0])[1:] == (-math.inf, math.inf)
    assert s.shift([math.inf, -math.inf]).mean == 0.0


@given(st.integers(1, 40), st.data())
def test_a_proportion_is_scipys(of, data):
    count = data.draw(st.integers(0, of))
    expected = stats.binomtest(count, of).proportion_ci(0.95)
    assert s.proportion(count, of) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(st.integers(0, 20), st.integers(0, 20))
def test_failing_more_often_is_mcnemars(first, second):
    expected = stats.binomtest(first, first + second, alternative="greater").pvalue if first else 1.0
    assert s.more_often(first, second) == pytest.approx(expected)


@given(scores)
def test_what_is_typical_is_scipys_trimmed_mean(values):
    found = s.typical(values, halves=False)
    assert found.mean == pytest.approx(stats.trim_mean(values, 0.2))
    assert found.low <= found.mean <= found.high
    if len(values) < 5 and np.ptp(values) > 0:  # nothing is trimmed: Student's
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    wide = s.typical(values)
    assert wide.low <= found.low
    assert wide.high >= found.high


def test_one_run_does_not_decide_what_is_typical():
    runs = [0.98, 0.97, 0.98, 0.99, 0.98, 0.97, 0.98, 0.99, 0.97, 0.1]
    assert s.typical(runs).low > 0.9
    assert s.typical([*runs[:-1], None]).mean == pytest.approx(s.typical(runs[:-1]).mean)
    assert math.isnan(s.typical([None, None]).mean)


def test_intervals_cover_where_runs_share_their_tuning():
    """Runs 2k and 2k + 1 train with the choices of two halves, whose luck is opposite to the mean over both."""
    rng, covered, without = np.random.default_rng(5), 0, 0
    for _ in range(300):
        trials = rng.normal(0, 1, 12)
        halves = [rng.permutation(12) for _ in range(5)]
        luck = [trials[half].mean() for order in halves for half in (order[:6], order[6:])]
        runs = (np.array(luck) + rng.normal(0, 0.3, 10)).tolist()
        low, high = s.typical(runs)[1:]
        covered += low <= 0.0 <= high
        low, high = s.typical(runs, halves=False)[1:]
        without += low <= 0.0 <= high
    assert 0.84 <= covered / 300 <= 0.995
    assert without / 300 < 0.75  # what an interval covers that leaves out the luck of tuning


@given(st.floats(0, 3), st.floats(0, 3))
@settings(max_examples=20)
def test_the_luck_of_tuning_is_estimated_without_bias(tuning, seeds):
    rng, found = np.random.default_rng(2), []
    for _ in range(400):
        apart = rng.normal(0, tuning, 5)  # of the halves of each split
        shared = rng.normal(0, tuning)
        runs = np.stack([shared + apart, shared - apart], axis=1) + rng.normal(0, seeds, (5, 2))
        found.append(s.luck_of_tuning(runs.ravel().tolist()))
    expected = tuning**2 + seeds**2 / 10
    assert np.mean(found) == pytest.approx(expected, abs=0.05 + 0.15 * (tuning**2 + seeds**2))


@given(st.lists(st.integers(0, 20).map(float), min_size=1, max_size=7))
def test_expected_best_is_the_mean_over_all_subsets(values):
    for direction, best in (("max", max), ("min", min)):
        found = s.expected_best(values, direction)
        for k, value in enumerate(found, start=1):
            exact = np.mean([best(c) for c in itertools.combinations(values, k)])
            assert value == pytest.approx(exact)


def test_expected_best_of_thousands_is_exact_where_the_answer_is_known():
    n = 3000  # the binomials pass all floats
    found = np.array(s.expected_best([float(i) for i in range(1, n + 1)], "max"))
    k = np.arange(1, n + 1)
    assert found == pytest.approx(k * (n + 1) / (k + 1), rel=1e-9)


def test_expected_best_counts_failures_as_the_worst():
    assert s.expected_best([None, 1.0, 3.0], "max") == s.expected_best([1.0, 1.0, 3.0], "max")
    assert s.expected_best([None, 1.0, 3.0], "min") == s.expected_best([3.0, 1.0, 3.0], "min")
    assert s.expected_best([None, None], "max") == [None, None]


def test_time_to_target_is_the_first_time():
    assert s.time_to_target([1, 2, 3, 4], [0.1, 0.6, 0.4, 0.9], 0.5, "max") == 2
    assert s.time_to_target([1, 2, 3], [0.9, 0.6, 0.4], 0.5, "min") == 3
    assert s.time_to_target([1, 2], [0.1, 0.2], 0.5, "max") is None


def test_an_interval_ends_where_the_metric_does():
    assert s.typical([1.0, 1.0, 0.1]).high > 1.0
    assert s.typical([1.0, 1.0, 0.1], within=(0.0, 1.0))[1:] == (0.0, 1.0)
