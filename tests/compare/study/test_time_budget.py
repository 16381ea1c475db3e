"""A study that is given a time gets runs of lengths with which it fits, the same time for each strategy."""

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import thalweg
from tests.compare.small import job, small_task, task_context
from thalweg.compare.design import Budget
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.serial import Serial
from thalweg.compare.report import render
from thalweg.compare.storage.store import Store
from thalweg.compare.strategy import Strategy
from thalweg.compare.study import time_budget
from thalweg.compare.study.lengths import Lengths
from thalweg.compare.study.time_budget import Cost, alike, lengths_within
from thalweg.compare.user_errors import StudyError

plans = st.builds(Budget, st.integers(1, 20), st.integers(30, 300), st.integers(1, 20), st.integers(0, 29))
prices = st.lists(st.tuples(*2 * [st.integers(1, 64)]), min_size=2, max_size=4)
SAME = {"sgd": Cost(0.001, 0.001, 0.0), "adam": Cost(0.001, 0.001, 0.0)}


@given(plans, st.integers(1, 8), st.integers(1, 2000))
def test_runs_are_as_long_as_the_time_lets_them_be(plan, strategies, steps):
    def takes(length):
        like_it = replace(plan, steps=length, warmup=-(-plan.warmup * length // plan.steps))
        return 2.0**-7 * strategies * (like_it.tuning_evaluations + like_it.final_evaluations)

    costs = {str(i): Cost(2.0**-7, 2.0**-7, 0.0) for i in range(strategies)}
    found = lengths_within(takes(steps), plan, costs)
    assert found.each is None
    assert takes(found.steps) <= takes(steps) * (1 + 1e-9)
    assert found.steps >= steps


@given(plans, prices, st.integers(1, 500))
def test_a_run_of_each_strategy_takes_the_same_time_to_within_a_step(plan, drawn, steps):
    costs = {str(i): Cost(alone / 64, study / 512, 1 / 128) for i, (alone, study) in enumerate(drawn)}
    lengths = lengths_within(1e3 * steps, plan, costs)
    longest = max(costs[name].of_run(lengths.of(name)) for name in costs)
    for name, cost in costs.items():
        assert cost.of_run(lengths.of(name)) <= longest
        assert cost.of_run(lengths.of(name) + 1) > longest or lengths.of(name) == 1
    assert lengths.each is None or lengths.seconds == longest


def test_a_step_that_costs_twice_as_much_is_taken_half_as_often():
    costs = {**SAME, "lbfgs": Cost(0.002, 0.01, 0.0)}
    lengths = lengths_within(60.0, Budget(12, 100, 10), costs)
    assert lengths.of("sgd") == lengths.of("adam") == lengths.steps == pytest.approx(2 * lengths.of("lbfgs"), abs=1)
    assert lengths.seconds == lengths.steps * 0.001


@given(st.lists(st.floats(1e-4, 1e-1), min_size=1, max_size=8))
def test_costs_that_timing_does_not_tell_apart_are_equal_and_none_moves_by_more_than_a_tenth(seconds):
    costs = {str(i): cost for i, cost in enumerate(seconds)}
    found = alike(costs)
    assert [*found] == [*costs]
    assert all(found[name] == pytest.approx(cost, rel=0.1 + 1e-9) for name, cost in costs.items())
    least = min(costs, key=lambda name: costs[name])
    assert all(found[name] == found[least] for name, cost in costs.items() if cost <= 1.1 * costs[least])


def test_evaluations_take_their_part_of_the_time():
    plan = Budget(12, 100, 10)
    dear = {name: replace(cost, evaluation=0.01) for name, cost in SAME.items()}
    assert lengths_within(60, plan, SAME).steps > lengths_within(60, plan, dear).steps > 0
    with pytest.raises(ValueError, match="takes longer than its budget .*: increase --budget, or lower --trials"):
        lengths_within(1e-3, plan, SAME)


@given(plans, st.integers(1, 300))
def test_rungs_warm_up_and_points_lie_at_the_same_shares_of_shorter_runs(plan, length):
    plan = replace(plan, lengths={"long": plan.steps, "short": min(length, plan.steps)})
    long, short = plan.of("long"), plan.of("short")
    assert long == replace(plan, lengths=None)
    share = short.steps / long.steps
    assert short.rung <= short.steps
    assert short.warmup >= plan.warmup * share
    assert abs(short.rung - long.rung * share) <= 2
    for mean, one, two in zip(plan.stages_of(["long", "short"]), long.stages(), short.stages(), strict=True):
        assert (mean.rung, mean.runs) == (one.rung, one.runs)
        assert min(one.steps, two.steps) <= mean.steps <= max(one.steps, two.steps)
    assert Budget.from_design(json.loads(json.dumps({"protocol": 2, "budget": plan.stated()}))) == plan


def quick(out, strategies=("sgd",), budget="20min", **options):
    settings = {"trials": 1, "seeds": 1, "engine": "serial", "out": out, "budget": budget}
    return thalweg.compare(small_task(), strategies, **{**settings, **options})


def test_a_study_keeps_the_lengths_that_it_began_with(tmp_path, monkeypatch):
    measured = iter([Lengths(6), Lengths(9)])
    monkeypatch.setattr("thalweg.compare.study.prepare.measured_lengths", lambda *given: next(measured))
    budget = quick(tmp_path / "o").results["budget"]
    assert (budget["steps"], budget["study_seconds"]) == (6, 1200)
    assert quick(tmp_path / "o", budget=1200).results["budget"] == budget  # nothing is measured again
    with pytest.raises(StudyError, match="budget"):
        quick(tmp_path / "o", budget="21min")


def records(folder, name):
    store = Store.open(folder)
    try:
        return [r for r in store.records() if r["strategy"] == name]
    finally:
        store.close()


def test_each_strategy_trains_as_in_a_study_of_its_own_length(tmp_path, monkeypatch):
    """Its schedule, rungs, evaluation points and finals are those of runs of that length."""
    lengths = {"adam@warmup-cosine": 18, "sgd": 60}
    given = Lengths(60, lengths, 1.5)
    monkeypatch.setattr("thalweg.compare.study.prepare.measured_lengths", lambda *_: given)
    options = {"trials": 3, "seeds": 2}
    done = quick(tmp_path / "both", [*lengths], **options)
    assert done.results["budget"]["lengths"] == lengths
    for name in lengths:
        alone = quick(tmp_path / name, [name], budget=None, steps=lengths[name], **options)
        assert records(done.folder, name) == records(alone.folder, name)
    for s in done.results["strategies"]:
        assert s["steps"] == lengths[s["name"]] == s["curves"]["step"][-1]
        spent = done.results["budget"]["gradient_evaluations"][s["name"]]
        own = records(done.folder, s["name"])
        first = math.ceil(s["steps"] / 3)
        assert {r["steps"] for r in own if r["rung"] in ("tune-1", "tune-2")} == {first}
        assert {r["steps"] for r in own if r["rung"] in ("tune-3", "final")} == {s["steps"]}
        assert spent == sum(r["steps"] - (first if r["rung"] == "tune-3" else 0) for r in own)
    said = "Runs take 1.5 s each, trained alone: adam@warmup-cosine 18 steps, sgd 60 steps."
    assert any(note.startswith(said) for note in done.results["notes"])
    assert "seconds of a run" in render(done.results)
    again = quick(tmp_path / "both", [*lengths], **options)
    assert again.results == done.results


def test_lanes_of_different_lengths_end_as_they_do_alone():
    def jobs():
        for name, total in (("adam@warmup-cosine", 18), ("sgd", 30), ("adam@warmup-cosine", 9)):
            yield job(name, seed=total, stop=total, total=total, evaluate_every=-(-total // 10))

    context = task_context()
    alone = Serial(context, 1).run(list(jobs()), lambda _: None)
    together = Lanes(context, 3, compile_=False).run(list(jobs()), lambda _: None)
    for one, two in zip(alone, together, strict=True):
        assert (one.status, one.steps, one.curve.step) == (two.status, two.steps, two.curve.step)
        assert one.curve.valid_loss == pytest.approx(two.curve.valid_loss, rel=1e-4)
        assert one.test == pytest.approx(two.test, abs=1e-6)


def test_lengths_follow_from_what_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(Serial, "timed", lambda self, job, threads=None: PRICES[job.strategy.name])
    monkeypatch.setattr(time_budget, "clock", lambda: 0.0)
    done = quick(tmp_path / "o", [*PRICES], budget=200.0)
    costs = {"sgd": Cost(0.515, 0.5, 0.0), "adam": Cost(0.515, 0.5, 0.0), "torch.optim.Adam": Cost(2.0, 2.0, 0.0)}
    expected = lengths_within(0.9 * 200, Budget(1, 30, 1), costs)
    assert done.results["budget"]["lengths"] == expected.each
    assert done.results["budget"]["run_seconds"] == expected.seconds


class NoStep(torch.optim.SGD):
    def step(self, closure=None):
        raise RuntimeError("no step today")


def test_what_cannot_run_takes_none_of_the_time(tmp_path, monkeypatch):
    timed = Serial.timed

    def priced(self, job, threads=None):
        return PRICES.get(job.strategy.name) or timed(self, job, threads)

    monkeypatch.setattr(Serial, "timed", priced)
    monkeypatch.setattr(time_budget, "clock", lambda: 0.0)
    able = quick(tmp_path / "able", ["sgd", "torch.optim.Adam"], budget=200.0)
    some = ["sgd", Strategy("no-step", factory=NoStep), "torch.optim.Adam"]
    done = quick(tmp_path / "some", some, budget=200.0)
    steps = able.results["budget"]["lengths"]
    assert steps["sgd"] > steps["torch.optim.Adam"]
    assert done.results["budget"]["lengths"] == {**steps, "no-step": steps["sgd"]}
    failed = {s["name"]: s["could_not_run"] for s in done.results["strategies"] if s.get("could_not_run")}
    assert failed == {"no-step": "cannot step this model (RuntimeError: no step today)"}
    assert done.results["strategies"][0]["steps"] == steps[done.results["strategies"][0]["name"]]


PRICES = {"sgd": 0.5, "adam": 0.53, "torch.optim.Adam": 2.0}  # seconds of a step


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
