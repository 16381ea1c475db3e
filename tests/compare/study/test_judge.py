"""Strategies judged by the time to a target: what is censored, how sure it is, and that tuning chooses by the same."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import thalweg
from tests.compare.small import parts, small_task
from thalweg.compare.comparison import Comparison
from thalweg.compare.design import half, mean_of
from thalweg.compare.report import render
from thalweg.compare.statistics import median_time
from thalweg.compare.storage.result import Curve, TrialResult
from thalweg.compare.storage.store import Store, StudyError
from thalweg.compare.study.criterion import Criterion, chosen_target
from thalweg.compare.study.judged import Judged, Runs
from thalweg.compare.study.reporter import Reporter
from thalweg.compare.study.timed import in_time
from thalweg.compare.study.verdict import check_expectation, decide, pairs

LENGTH = 300  # gradient evaluations of a run
GOAL = "validation accuracy 0.9"
SMALL = {"trials": 5, "steps": 30, "seeds": 8, "engine": "serial", "judge": "time-to-target"}


def timed(steps, judge="time-to-target", seconds=None, precision=None, failed=None, **options):
    """Runs with a test score each, judged by the evaluations to the target, None where it is not reached."""
    lost = failed or {}
    runs = {n: Runs([0.9] * len(s), lost.get(n, [False] * len(s)), s) for n, s in steps.items()}
    plainly = Judged(runs, "max", "accuracy", goal=GOAL, **options)
    return in_time(plainly, judge, dict.fromkeys(steps, LENGTH), seconds or {}, precision or {})


times = st.lists(st.tuples(*2 * [st.none() | st.integers(1, 5)]), min_size=2, max_size=9)


@given(times)
def test_a_run_that_reaches_the_target_ranks_before_every_one_that_does_not(drawn):
    a, b = (list(own) for own in zip(*drawn, strict=True))
    gains = timed({"a": a, "b": b}).gains("a", "b")
    for x, y, gain in zip(a, b, gains, strict=True):
        one, two = (math.inf if t is None else t for t in (x, y))
        assert np.sign(gain) == (0 if one == two else 1 if one < two else -1)
        assert gain == (two - one if math.isfinite(one) and math.isfinite(two) else gain)
        assert math.isfinite(gain) == ((x is None) == (y is None))


@given(st.lists(st.none() | st.integers(1, 99), min_size=1, max_size=30))
def test_the_typical_time_is_the_median_with_what_is_not_reached_beyond_all(drawn):
    found = median_time(drawn)
    x = sorted(math.inf if t is None else t for t in drawn)
    n = len(x)
    assert found.mean == (x[n // 2] if n % 2 else (x[n // 2 - 1] + x[n // 2]) / 2)
    if n > 5:
        inside = sum(math.comb(n, i) for i in range(x.index(found.low) + 1, n - x[::-1].index(found.high)))
        assert found.low <= found.mean <= found.high
        assert inside / 2**n >= 0.95 or len(set(x)) < n  # between ties the positions are not what was taken
    else:
        assert math.isnan(found.low)


def test_the_interval_of_the_median_covers_it():
    rng = np.random.default_rng(0)
    draws = rng.exponential(1, (2000, 10))
    covered = [(f := median_time(x.tolist())).low <= math.log(2) <= f.high for x in draws]
    assert 0.95 <= np.mean(covered) <= 0.99  # it is exact, 0.979


def studies(rng, count, seeds, kind):
    """Yields pairs of lists of evaluations: one strategy under two names, paired by seed."""
    for _ in range(count):
        seed, own = rng.normal(0, 1, seeds), rng.normal(0, 1, (2, seeds))
        x = np.exp(4 + 0.5 * seed + 0.5 * own)
        if kind == "coarse":
            x = 40 * np.ceil(x / 40)
        if kind in ("censored", "mostly censored"):
            x = np.where(x > (70 if kind == "censored" else 40), np.inf, 5 * np.ceil(x / 5))
        yield [[None if math.isinf(t) else float(t) for t in row] for row in x]


@pytest.mark.parametrize("kind", ["fine", "coarse", "censored", "mostly censored"])
def test_one_strategy_under_two_names_is_seldom_told_apart(kind):
    rng, count, told = np.random.default_rng(5), 240, 0
    for a, b in studies(rng, count, 10, kind):
        one = timed({"a": a, "b": b})
        told += one.beats("a", "b") or one.beats("b", "a")
    assert told <= 0.05 * count


def test_seconds_that_are_measured_wrong_do_not_tell_one_strategy_from_itself():
    """The error of a measurement is the same for all runs: without a margin every study would name a winner."""
    rng, count = np.random.default_rng(6), 100
    seconds, sure = {"a": 0.010, "b": 0.0108}, {"a": 0.05, "b": 0.05}
    told = exact = apart = 0
    for a, b in studies(rng, count, 10, "coarse"):
        same = timed({"a": a, "b": a}, "seconds-to-target", seconds, sure)
        told += same.beats("a", "b") or same.beats("b", "a")
        exact += timed({"a": a, "b": a}, "seconds-to-target", seconds, {}).beats("a", "b")
        other = timed({"a": a, "b": b}, "seconds-to-target", seconds, sure)
        apart += other.beats("a", "b") or other.beats("b", "a")
    assert exact > 0.9 * count
    assert told == 0
    assert apart <= 0.05 * count


def test_what_takes_twice_as_many_seconds_is_behind_though_it_takes_as_many_evaluations():
    a = [40, 50, 60, 45, 55, 65, 70, 35]
    assert decide(timed({"a": a, "b": a})).candidates == ["a", "b"]
    seconds, sure = {"a": 0.01, "b": 0.02}, {"a": 0.1, "b": 0.3}
    found = decide(timed({"a": a, "b": a}, "seconds-to-target", seconds, sure))
    assert (found.winner, found.behind[0].typically) == ("a", pytest.approx(0.525))
    assert found.behind[0].at_least < found.behind[0].typically
    assert any("to about 30 %: less than that is not claimed" in line for line in found.details)


def test_what_seldom_reaches_the_target_is_behind_and_it_is_said_how_often():
    steps = {"a": [50 + i for i in range(10)], "b": [40, 41, *[None] * 8]}
    found = decide(timed(steps, choices={"a": "lr 0.1"}))
    assert (
        found.sentence == "Use a (lr 0.1): it reached the target in 10 of 10 runs, and every other strategy did worse."
    )
    assert found.details[0] == (
        "Reached the target, validation accuracy 0.9: a in 10 of 10 runs (true rate at least 69 %), typically after "
        "54.5 evaluations; b in 2 of 10 runs (true rate 3 to 56 %)."
    )
    assert any(line.startswith("Behind: b, which lost to a on 8 of 10 runs.") for line in found.details)
    (pair,) = pairs(timed(steps))
    assert (pair["better"], pair["runs"]) == ("a", 2)
    assert check_expectation("a beats b", [pair])


REACHED = "No strategy is surely faster; use a, which reached the target in {} of 8 runs."


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ({n: [None] * 8 for n in "ab"}, f"No verdict: no run reached {GOAL} (lower --target, or train for longer)."),
        (
            {n: [30] * 8 for n in "ab"},
            f"No verdict: all runs reached {GOAL} at the same point (set a harder --target).",
        ),
        ({"a": [30] * 8}, "Only a was run, so there is nothing to compare it with."),
        ({"a": [30], "b": [40]}, "No verdict: it takes at least 7 seeds to compare 2 strategies (--seeds 7)."),
        ({n: [30, 40] * 4 for n in "ab"}, REACHED.format(8)),
        ({"a": [None] * 7 + [3], "b": [None] * 8}, REACHED.format(1)),
    ],
)
def test_whatever_the_runs_are_the_sentence_is_true(steps, sentence):
    found = decide(timed(steps))
    assert found.sentence == sentence
    assert len(found.sentence.split()) <= 20
    assert "inf" not in " ".join(found.details)


def test_a_run_that_failed_has_not_reached_the_target():
    found = timed({"a": [10, 20, 30], "b": [15, 15, 15]}, failed={"a": [True, False, False]})
    assert found.runs["a"].scores == [None, 20, 30]
    assert found.gains("a", "b") == [-math.inf, -5, -15]


def test_equivalence_is_in_the_unit_of_what_is_judged_and_never_shown_of_what_is_censored():
    a = [40 + i for i in range(10)]
    near = {"a": a, "b": [t + 1 for t in a]}
    assert decide(timed({**near, "c": [200] * 10}, within=5)).winner == "a"
    same = decide(timed({"a": a, "b": [t + (-1) ** i for i, t in enumerate(a)]}, within=5))
    assert same.equivalent == [["a", "b"]]
    assert any("Equivalent within ±5 evaluations" in line for line in same.details)
    cut = [*a[:5], *[None] * 5]
    assert decide(timed({"a": cut, "b": [*[None] * 5, *a[5:]]}, within=5)).equivalent == []


def test_ties_go_to_the_better_metric():
    runs = {n: Runs([score] * 8, [False] * 8, [30, 40] * 4) for n, score in {"a": 0.8, "b": 0.9}.items()}
    judged = in_time(Judged(runs, "max", "accuracy", goal=GOAL), "time-to-target", {"a": 50, "b": 50}, {}, {})
    assert decide(judged).use == "b"


curves = st.lists(st.sampled_from([0.1, 0.5, 0.8, 0.9]), min_size=1, max_size=6)


@given(curves, curves, st.sampled_from(["max", "min"]))
def test_of_two_trials_the_one_that_reaches_the_target_sooner_is_better_else_the_metric_tells(one, two, direction):
    target = 0.8 if direction == "max" else 0.5
    meets = (lambda x: x >= target) if direction == "max" else (lambda x: x <= target)

    def trial(values):
        steps = [10 * (i + 1) for i in range(len(values))]
        return [TrialResult("t", "finished", steps[-1], Curve(steps, values, values, values), 1.0)]

    criterion = Criterion("time-to-target", direction)
    first = [next((i for i, x in enumerate(v) if meets(x)), math.inf) for v in (one, two)]
    scores = [criterion.score(trial(v), target) for v in (one, two)]
    if first[0] != first[1]:
        assert (scores[0] < scores[1]) == (first[0] < first[1])
    elif one[-1] != two[-1]:
        assert (scores[0] < scores[1]) == ((one[-1] > two[-1]) == (direction == "max"))
    lost = [replace(trial(one)[0], status="diverged")]
    assert criterion.score(lost, target) > max(scores)


def records(folder):
    store = Store.open(folder)
    try:
        return list(store.records())
    finally:
        store.close()


def study(out, strategies=("sgd", "adam"), task=None, **options):
    return thalweg.compare(task or small_task(), strategies, out=out, **{**SMALL, **options})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return study(tmp_path_factory.mktemp("timed") / "out")


def whole(own, key):
    """Returns the learning curve of a trial over all its rungs, and its last record."""
    stretches = [r for r in own if r["key"] == key]
    points = [p for r in stretches for p in zip(r["curve"]["step"], r["curve"]["valid_metric"], strict=True)]
    return points, stretches[-1]


def test_the_target_is_made_by_the_tuning_trials_alone(done):
    """In the protocol's words, from the records alone."""
    best = []
    for s in done.results["strategies"]:
        own = [r for r in records(done.folder) if r["strategy"] == s["name"] and r["rung"] != "final"]
        found = [whole(own, key) for key in dict.fromkeys(r["key"] for r in own)]
        ended = [points for points, last in found if last["steps"] == 30]
        best.append([[y for _, y in points] for points in sorted(ended, key=lambda p: -p[-1][1])[:3]])
    assert done.results["task"]["target"] == chosen_target("max", best)
    assert done.results["judge"]["target_from"] == "tuning trials"


def test_tuning_chooses_what_reaches_the_target_sooner(done):
    """In the protocol's words, from the records alone."""
    target = done.results["task"]["target"]
    for s in done.results["strategies"]:
        own = [r for r in records(done.folder) if r["strategy"] == s["name"]]
        found = [whole(own, f"{s['name']}/{i}") for i in range(6)]

        def order(trial):
            points, last = trial
            reached = next((t for t, y in points if y >= target), math.inf)
            return reached, -points[-1][1], last["curve"]["valid_loss"][-1]

        for run, final in enumerate(r for r in own if r["rung"] == "final"):
            tried = [found[i] for i in half(6, run, 0)]
            known = [t for t in tried if t[1]["steps"] == 30 or math.isfinite(order(t)[0])] or tried
            ranked = [last["hyper"] for _, last in sorted(known, key=order)[:3]]
            assert final["hyper"]["lr"] == mean_of(ranked, s["space"])["lr"]


def test_results_table_report_and_notebook_say_what_is_judged_and_in_which_unit(done):
    r, target = done.results, done.results["task"]["target"]
    said = f"Judged by the gradient evaluations until validation accuracy {target:.4g} is reached."
    assert r["judge"] == {
        "by": "time-to-target", "unit": "evaluations", "target_from": "tuning trials", "tuned_by": "time-to-target",
        "text": said,
    }  # fmt: skip
    for s in r["strategies"]:
        steps = [run["steps_to_target"] for run in s["runs"]]
        finals = [x["curve"] for x in records(done.folder) if x["rung"] == "final" and x["strategy"] == s["name"]]
        for run, curve in zip(steps, finals, strict=True):
            points = zip(curve["step"], curve["valid_metric"], strict=True)
            assert run == next((t for t, y in points if y >= target), None)
        ranked = sorted(math.inf if t is None else t for t in steps)
        middle = (ranked[3] + ranked[4]) / 2
        assert s["to_target"]["steps"] == (middle if math.isfinite(middle) else None)
        assert s["to_target"]["reached"] == sum(t is not None for t in steps)
    assert list(done.rows()[0])[1:3] == ["target\nin steps", "95 %\ninterval"]
    assert said in done._repr_html_()
    assert said in render(r)
    assert json.loads((done.folder / "results.json").read_text()) == json.loads(json.dumps(r))


def test_a_study_goes_on_as_it_was_judged_and_is_refused_otherwise(tmp_path, done):
    class Cut(Reporter):
        left = 260

        def advance(self, steps):
            self.left -= steps
            if self.left < 0:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "s", reporter=Cut())
    with pytest.raises(StudyError, match="different study: judge is time-to-target there and metric here"):
        study(tmp_path / "s", judge="metric")
    with pytest.raises(StudyError, match="different study: target is not given there and 0.9 here"):
        study(tmp_path / "s", target=0.9)
    assert records(study(tmp_path / "s").folder) == records(done.folder)


def test_a_finished_study_can_be_judged_otherwise_and_says_by_what_it_was_tuned(tmp_path, done):
    plain = study(tmp_path / "s", judge="metric", within=0.5)
    assert plain.results["judge"]["by"] == plain.results["judge"]["tuned_by"] == "metric"
    again = Comparison.open(plain.folder, judge="time-to-target")
    assert again.results["judge"]["target_from"] == "tuning trials"
    assert "Tuning chose by the metric, and the final runs are judged by evaluations" in again.results["notes"][0]
    assert again.results["verdict"]["margin"] != 0.5  # which is in the unit of the metric
    given = Comparison.open(plain.folder, judge="seconds-to-target", target=0.5)
    assert (given.results["task"]["target"], given.results["judge"]["unit"]) == (0.5, "seconds")
    assert Comparison.open(plain.folder).results == plain.results
    back = Comparison.open(done.folder, judge="metric")
    assert "Tuning chose by evaluations to the target" in back.results["notes"][0]
    with pytest.raises(ValueError, match="judge is 'time': choose among metric, time-to-target"):
        Comparison.open(done.folder, judge="time")


def test_seconds_are_those_of_each_strategy_alone(tmp_path):
    done = study(tmp_path / "s", judge="seconds-to-target", target=0.5)
    store = Store.open(done.folder)
    timings = store.fact("timings")
    store.close()
    for s in done.results["strategies"]:
        assert s["seconds_per_step"] == min(timings[s["name"]])
        assert len(timings[s["name"]]) >= 2
        steps = s["to_target"]["steps"]
        assert s["to_target"]["seconds"] == (None if steps is None else steps * s["seconds_per_step"])
    assert any(line.startswith("Seconds are the evaluations times the seconds of one") for line in done.details)


def test_batches_are_judged_by_the_metric_alone(tmp_path):
    with pytest.raises(ValueError, match="until='decided' judges by the metric: omit judge .--judge., or omit until"):
        study(tmp_path / "s", until="decided")
    assert not (tmp_path / "s").exists()


def test_own_loops_and_own_steps_are_judged_by_time_too(tmp_path):
    import torch
    from torch import nn

    def step(model, batch):
        x, y = batch
        return nn.functional.cross_entropy(model(x), y)

    def evaluate(model, batches):
        right = [float((model(x).argmax(1) == y).float().mean()) for x, y in batches]
        return {"accuracy": sum(right) / len(right)}

    task = small_task()
    own = thalweg.Task(task.model, *parts(), step=step, evaluate=evaluate, batch_size=20, name="own")

    def train(run):
        data = parts()
        model = nn.Linear(6, 3)
        optimizer = run.optimizer(model)
        for x, y in run.batches(torch.utils.data.DataLoader(data[0], batch_size=20, shuffle=True)):
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.loss(loss)
            if run.due:
                run.report(valid=evaluate(model, [data[1].tensors]))
        run.report(test=evaluate(model, [data[2].tensors]))

    for name, asked in (("step", own), ("loop", thalweg.TrainingLoop(train, metric="accuracy"))):
        found = study(tmp_path / name, task=asked, trials=2, steps=15, seeds=2)
        assert found.results["judge"]["by"] == "time-to-target"
        assert found.results["task"]["target"] is not None
        assert found.details[0].startswith("Reached the target, validation accuracy")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"judge": "time"}, "judge is 'time': choose among metric, time-to-target, seconds-to-target"),
        ({"target": math.nan}, "target is nan: give a number"),
        ({"target": 95}, "target is 95, and the accuracy lies between 0 and 1: give another --target"),
    ],
)
def test_what_cannot_be_judged_is_one_line(tmp_path, options, match):
    with pytest.raises(ValueError, match=match):
        study(tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()
