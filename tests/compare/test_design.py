"""The budget is equal, the stream is shared, the edge is widened."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.compare.design import Budget, configuration, edge, sobol, survivors, widen

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


def test_widening_looks_one_decade_beyond():
    strip, record = widen({"lr": (1e-4, 1.0)}, "lr", "high")
    assert strip["lr"] == (1.0, 10.0)
    assert (record.before, record.after) == ((1e-4, 1.0), (1e-4, 10.0))


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, math.inf]), st.floats(0, 1)), max_size=12), st.integers(1, 6))
def test_survivors_are_the_best_and_never_diverged(scores, keep):
    kept = survivors(scores, keep)
    finite = [i for i, s in enumerate(scores) if math.isfinite(s[0])]
    assert len(kept) == min(keep, len(finite))
    assert kept == sorted(kept)
    assert all(scores[i] <= scores[j] for i in kept for j in finite if j not in kept)
