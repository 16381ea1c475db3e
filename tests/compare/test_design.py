"""The budget is equal, the stream is shared, final runs differ by their tuning."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.compare.design import Budget, configuration, edge, half, mean_of, middle, sobol, survivors, window

budgets = st.builds(Budget, st.integers(1, 40), st.integers(1, 400), st.integers(1, 20), st.integers(0, 50))


@given(budgets)
def test_the_first_rung_is_a_third_and_never_inside_warm_up(b):
    assert 1 <= b.rung <= b.steps
    assert b.rung >= math.ceil(b.steps / 3)
    if b.steps > b.warmup:
        assert b.rung > b.warmup


@given(budgets)
def test_the_budget_adds_up(b):
    assert b.tuning_evaluations == (b.trials + 1) * b.rung + b.promoted * (b.steps - b.rung)
    assert b.tuning_evaluations <= (b.trials + 1) * b.steps
    assert 0 <= b.held_back <= b.trials


def test_learning_rates_pair_across_strategies():
    points = sobol(16, 0)
    one = [configuration({"lr": (1e-4, 1.0)}, p)["lr"] for p in points]
    two = [configuration({"beta": (0.5, 0.9), "lr": (1e-3, 10.0)}, p)["lr"] for p in points]
    assert two == pytest.approx([10 * lr for lr in one], rel=1e-4)


def test_points_fill_the_range_evenly_and_depend_on_the_seed_alone():
    points = sobol(16, 3)
    assert np.array_equal(points, sobol(16, 3))
    assert not np.array_equal(points, sobol(16, 4))
    assert np.array_equal(points[:8], sobol(8, 3))  # a longer stream begins as the shorter one
    assert sorted(np.floor(points[:, 0] * 16).astype(int)) == list(range(16))


@given(st.floats(0.001, 0.999))
def test_configurations_lie_in_the_space_and_are_log_uniform(u):
    lr = configuration({"lr": (1e-5, 1e-1)}, [u])["lr"]
    assert 1e-5 <= lr <= 1e-1
    assert math.log10(lr) == pytest.approx(-5 + 4 * u, abs=1e-4)


def test_edges():
    space = {"lr": (1e-4, 1.0)}
    assert edge(space, {"lr": 1e-4}) == ("lr", "low")
    assert edge(space, {"lr": 0.9}) == ("lr", "high")
    assert edge(space, {"lr": 5.0}) == ("lr", "high")  # a default beyond the range
    assert edge(space, {"lr": 1e-2}) is None


spaces = st.builds(lambda low, wide: {"lr": (low, low * wide)}, st.floats(1e-6, 1e-2), st.floats(2, 1e5))


@given(spaces, st.floats(0.101, 0.899))
def test_a_window_is_a_fifth_of_the_range_on_either_side_and_follows_the_learning_rate_beyond_it(space, at):
    low, high = space["lr"]
    lr = low * (high / low) ** at
    (below, above) = window(space, [{"lr": lr}])["lr"]
    assert math.log(lr / below) == pytest.approx(0.2 * math.log(high / low), rel=1e-3)
    assert math.log(above / lr) == pytest.approx(0.2 * math.log(high / low), rel=1e-3)
    inside = window({"beta": (low, high)}, [{"beta": lr}])["beta"]
    assert low * (1 - 1e-5) <= inside[0] <= inside[1] <= high * (1 + 1e-5)
    reach = (high / low) ** 0.2
    assert window(space, [{"lr": high}])["lr"] == pytest.approx((high / reach, high * reach), rel=1e-4)
    both = window({"beta": (low, high), **space}, [{"lr": high, "beta": low}])  # each has an edge of its own
    assert both["lr"] == pytest.approx((high / reach, high * reach), rel=1e-4)
    assert both["beta"] == pytest.approx((low, low * reach), rel=1e-4)
    assert window(space, [{"lr": low}])["lr"] == pytest.approx((low / reach, low * reach), rel=1e-4)


@given(st.lists(st.floats(1e-5, 1.0), min_size=1, max_size=3))
def test_the_mean_of_the_best_lies_between_them_and_nearest_the_best(lrs):
    mean = mean_of([{"lr": lr} for lr in lrs], {"lr": (1e-5, 1.0)})["lr"]
    assert min(lrs) * (1 - 1e-5) <= mean <= max(lrs) * (1 + 1e-5)
    weights = np.log(3.5) - np.log(np.arange(1, len(lrs) + 1))
    assert math.log(mean) == pytest.approx(float(np.average(np.log(lrs), weights=weights)), abs=1e-5)


def test_what_has_no_logarithm_is_that_of_the_best():
    assert mean_of([{"lr": 0.1, "decay": 0.0}, {"lr": 0.1, "decay": 1.0}], {"decay": (0.1, 1.0)}) == {"decay": 0.0}


@given(st.integers(2, 40), st.integers(0, 19), st.integers(0, 5))
def test_two_runs_share_a_split_and_no_configuration(count, split, seed):
    one, two = (half(count, run, seed) for run in (2 * split, 2 * split + 1))
    assert sorted(one + two) == list(range(count))
    assert abs(len(one) - len(two)) <= 1


def test_splits_differ_from_each_other():
    assert len({tuple(half(13, run, 0)) for run in range(10)}) == 10


def test_the_middle_choice_is_recommended():
    choices = [{"lr": lr, "batches": 4} for lr in (0.1, 0.001, 0.01, 0.02, 0.015)]
    assert choices[middle(choices, {"lr": (1e-4, 1.0)})]["lr"] == 0.015


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, math.inf]), st.floats(0, 1)), max_size=12), st.integers(1, 6))
def test_survivors_are_the_best_and_never_diverged(scores, keep):
    kept = survivors(scores, keep)
    finite = [i for i, s in enumerate(scores) if math.isfinite(s[0])]
    assert len(kept) == min(keep, len(finite))
    assert kept == sorted(kept)
    assert all(scores[i] <= scores[j] for i in kept for j in finite if j not in kept)
