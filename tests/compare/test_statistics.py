"""Intervals that cover, corrections that correct, verdicts that do not overreach."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from thalweg.compare import statistics as s
from thalweg.compare.study.verdict import Cost, beats, check_expectation, decide, pairs, parse_expectation

scores = st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=2, max_size=12)


@given(scores)
def test_mean_interval_is_students(values):
    interval = s.mean_interval(values)
    assert interval.low <= interval.mean <= interval.high
    if np.ptp(values) > 0:
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


@given(scores)
def test_paired_difference_is_scipys_and_antisymmetric(values):
    a, b = values, [v * v / 10 + i % 3 for i, v in enumerate(values)]
    one, two = s.paired_difference(a, b), s.paired_difference(b, a)
    assert one.mean == pytest.approx(-two.mean)
    assert (one.low, one.high) == pytest.approx((-two.high, -two.low))
    assert one.p == pytest.approx(two.p)
    if np.std(np.subtract(a, b)) > 1e-6:
        assert one.p == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_one_seed_proves_nothing():
    assert s.paired_difference([1.0], [0.0]).p == 1.0
    assert math.isnan(s.mean_interval([1.0]).low)
    assert decide({"a": [0.9], "b": [0.1]}, "max", "accuracy").winner is None


def test_two_equal_seeds_prove_nothing():
    """Equal differences have no spread; the t test would divide by zero and call that proof."""
    assert s.paired_difference([1.0, 1.0], [0.5, 0.5]).p == 0.5
    assert decide({"a": [0.9, 0.9], "b": [0.1, 0.1]}, "max", "accuracy").winner is None
    assert s.paired_difference([0.7] * 4, [0.7] * 4).p == 1.0


@given(st.lists(st.floats(-5, 5).map(lambda x: round(x, 2)), min_size=1, max_size=7))
def test_sign_flip_counts_every_pattern(d):
    patterns = [
        abs(sum(sign * x for sign, x in zip(p, d, strict=True))) for p in itertools.product((1, -1), repeat=len(d))
    ]
    assert s.sign_flip(d) == pytest.approx(np.mean(np.array(patterns) >= abs(sum(d)) - 1e-9))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_is_step_down(ps):
    adjusted = s.holm(ps)
    assert all(a >= p and a <= 1 for a, p in zip(adjusted, ps, strict=True))
    order = np.argsort(ps, kind="stable")
    assert all(a <= b for a, b in itertools.pairwise(np.array(adjusted)[order]))
    assert adjusted[order[0]] == pytest.approx(min(1, len(ps) * min(ps)))
    # The definition: the adjusted p is the least level at which the step-down procedure rejects.
    for i, level in enumerate(adjusted):
        for alpha in (level * (1 - 1e-9) - 1e-12, min(1.0, level * (1 + 1e-9) + 1e-12)):
            rejected = set()
            for rank, j in enumerate(order):
                if ps[j] > alpha / (len(ps) - rank):
                    break
                rejected.add(int(j))
            if alpha < 1:
                assert (i in rejected) == (alpha > level)


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


NOISE = np.random.default_rng(0).normal(0, 0.01, (5, 10))


def runs(*means):
    return {name: (m + noise).tolist() for name, m, noise in zip("abcde", means, NOISE, strict=False)}


def test_a_clear_winner_wins_in_either_direction():
    up = decide(runs(0.9, 0.5, 0.3), "max", "accuracy")
    assert (up.winner, up.tied) == ("a", [])
    assert "a is best: test accuracy 0.9" in up.sentence
    assert "above b" in up.sentence
    down = decide(runs(0.9, 0.5, 0.3), "min", "loss")
    assert down.winner == "c"
    assert "below b" in down.sentence


def test_the_sentence_names_the_cost_of_the_winner_or_the_least_of_the_tied():
    costs = {"a": Cost(120, 0.5), "b": Cost(90, 0.7)}
    won = decide(runs(0.9, 0.5), "max", "accuracy", costs, "validation accuracy 0.4")
    assert won.sentence.endswith("; it reaches validation accuracy 0.4 in 120 gradient evaluations and 0.5 s.")
    tied = decide(runs(0.9, 0.9), "max", "accuracy", costs, "validation accuracy 0.4")
    assert "the tied strategies, a is the first to reach validation accuracy 0.4, in 120" in tied.sentence
    assert "reach" not in decide(runs(0.9, 0.9), "max", "accuracy").sentence


def test_an_interval_ends_where_the_metric_does():
    assert s.mean_interval([1.0, 1.0, 0.1], within=(0.0, 1.0))[1:] == (0.0, 1.0)
    assert s.mean_interval([1.0, 1.0, 0.1]).high > 1.0


def test_what_cannot_be_told_apart_is_tied_and_the_beaten_are_named():
    verdict = decide(runs(0.9, 0.9, 0.3), "max", "accuracy")
    assert verdict.winner is None
    assert set(verdict.tied) == {"a", "b"}
    assert verdict.sentence.startswith("Tie: ")
    assert "is better than c" in verdict.sentence


def test_a_verdict_does_not_hang_on_one_seed():
    outlier = {"a": [0.5] * 9 + [0.9], "b": [0.5 + 0.0001 * i for i in range(10)]}
    assert decide(outlier, "max", "accuracy").winner is None


def test_more_pairs_ask_for_more_proof():
    rng = np.random.default_rng(3)
    base = rng.normal(0, 1, 10)
    two = {"a": (base + 1.0).tolist(), "b": (base + rng.normal(0, 1.1, 10)).tolist()}
    many = two | {f"c{i}": (base + rng.normal(0, 5, 10)).tolist() for i in range(6)}
    alone = pairs(two)[0]["p_holm"]
    among = next(p for p in pairs(many) if {p["a"], p["b"]} == {"a", "b"})["p_holm"]
    assert alone < among


def test_false_alarms_and_power_are_as_claimed():
    """400 small comparisons of two: alike, and 3.5 standard errors apart. Binomial bounds of far less than 1e-3."""
    rng = np.random.default_rng(1)
    one, two = rng.normal(0, 1, (2, 400, 10))

    def winners(a, b):
        return [decide({"a": x.tolist(), "b": y.tolist()}, "max", "m").winner for x, y in zip(a, b, strict=True)]

    assert sum(w is not None for w in winners(one, two)) <= 400 * 0.09
    apart = winners(one + 3.5 * (2 / 10) ** 0.5, two)
    assert sum(w == "a" for w in apart) >= 400 * 0.8
    assert "b" not in apart


@given(st.integers(0, 10**6))
@settings(max_examples=30)
def test_the_winner_beats_everyone_and_nobody_beats_the_tied(seed):
    rng = np.random.default_rng(seed)
    per_seed = {n: (rng.normal(0, 1) + 0.3 * rng.normal(0, 1, 6)).tolist() for n in "abcd"}
    compared = pairs(per_seed)
    verdict = decide(per_seed, "max", "m")
    if verdict.winner:
        assert all(beats(verdict.winner, n, compared, "max") for n in per_seed if n != verdict.winner)
    else:
        assert len(verdict.tied) > 1
        assert not any(beats(n, verdict.tied[0], compared, "max") for n in per_seed if n != verdict.tied[0])


def test_expectations():
    compared = pairs(runs(0.9, 0.9, 0.3))
    assert check_expectation("a beats c", compared, "max")
    assert not check_expectation("c beats a", compared, "max")
    assert check_expectation("c beats a", compared, "min")
    assert check_expectation("a ties b", compared, "max")
    assert not check_expectation("a ties c", compared, "max")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a better than b", 'write "adam beats sgd"'),
        ("adm beats sgd", "did you mean 'adam'"),
        ("adam beats adam", "two different"),
    ],
)
def test_bad_expectations_name_the_mend(text, match):
    with pytest.raises(ValueError, match=match):
        parse_expectation(text, ["adam", "sgd"])
