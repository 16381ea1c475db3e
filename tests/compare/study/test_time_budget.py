"""A study that is given a time gets runs of a length with which it fits, and keeps that length."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import thalweg
from tests.compare.small import small_task
from thalweg.compare.design import Budget
from thalweg.compare.study import time_budget
from thalweg.compare.study.time_budget import steps_within
from thalweg.compare.user_errors import StudyError

plans = st.builds(Budget, st.integers(1, 20), st.integers(30, 300), st.integers(1, 20), st.integers(0, 29))


@given(plans, st.integers(1, 8), st.integers(1, 2000))
def test_runs_are_as_long_as_the_time_lets_them_be(plan, strategies, steps):
    def takes(length):
        like_it = replace(plan, steps=length, warmup=-(-plan.warmup * length // plan.steps))
        return 2.0**-7 * strategies * (like_it.tuning_evaluations + like_it.final_evaluations)

    found = steps_within(takes(steps), plan, strategies, step=2.0**-7, evaluation=0.0)
    assert takes(found) <= takes(steps) * (1 + 1e-9)
    assert found >= steps


def test_evaluations_take_their_part_of_the_time():
    plan = Budget(12, 100, 10)
    assert steps_within(60, plan, 2, 0.001, 0.0) > steps_within(60, plan, 2, 0.001, 0.01) > 0
    with pytest.raises(ValueError, match="takes longer than its budget .*: increase --budget, or lower --trials"):
        steps_within(1e-3, plan, 2, 0.001, 0.0)


def test_a_study_keeps_the_length_that_it_began_with(tmp_path, monkeypatch):
    measured = iter([6, 9])
    monkeypatch.setattr("thalweg.compare.study.prepare.measured_steps", lambda *given: next(measured))

    def quick(budget="20min", **options):
        settings = {"trials": 1, "seeds": 1, "engine": "serial", "out": tmp_path / "o", "budget": budget}
        return thalweg.compare(small_task(), ["sgd"], **{**settings, **options})

    budget = quick().results["budget"]
    assert (budget["steps"], budget["study_seconds"]) == (6, 1200)
    assert quick(1200).results["budget"] == budget  # nothing is measured again
    with pytest.raises(StudyError, match="budget"):
        quick("21min")


def test_the_length_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(time_budget, "pace", lambda facts: 0.5)
    monkeypatch.setattr(time_budget, "clock", lambda: 0.0)
    settings = {"trials": 1, "seeds": 1, "engine": "serial", "out": tmp_path / "o", "budget": 90.0}
    done = thalweg.compare(small_task(), ["sgd"], **settings)
    expected = steps_within(0.9 * 90, Budget(1, 30, 1), 1, 0.5, 0.0)
    assert done.results["budget"]["steps"] == expected > 10


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"budget": "soon"}, "budget is 'soon', not a duration: write, for example, 90s, 20min"),
        ({"budget": "1min", "steps": 9}, "steps and budget each say how long runs are: omit all but one"),
        ({"budget": "1min", "epochs": 9}, "epochs and budget each say how long runs are"),
        ({"budget": "1min", "engine": "ray"}, "give steps .* with engine='ray'"),
    ],
)
def test_a_budget_that_cannot_be_is_one_line(options, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        thalweg.compare(small_task(), ["sgd"], out=tmp_path / "o", **options)
