"""A study that goes on until it is decided: what its batches add, for which strategies, and when it ends."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg
from tests.compare.small import small_task
from thalweg import Strategy
from thalweg.compare.comparison import Comparison
from thalweg.compare.design import SEQUENTIAL, Budget, configuration, half, mean_of, sobol
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.statistics import between_halves, signed_rank
from thalweg.compare.storage.store import Store
from thalweg.compare.study.judged import judge
from thalweg.compare.study.reporter import Reporter
from thalweg.compare.study.unfinished import progress
from thalweg.compare.study.untrained import Untrained
from thalweg.compare.study.verdict import decide
from thalweg.rules import RULES
from thalweg.tensors import compiling, derive_seed

NAMES = ("momentum", "nesterov")
ONCE = {"trials": 3, "steps": 12, "seeds": 9, "engine": "serial", "within": 1e-9}
UNTIL = {**ONCE, "until": "decided"}
SLOW = Strategy("slow", RULES["sgd"], None, {**RULES["sgd"].defaults, "lr": 1e-7}, {"lr": (1e-8, 1e-7)})


def study(out, strategies=NAMES, **options):
    return thalweg.compare(small_task(), strategies, out=out, **{**UNTIL, **options})


def opened(folder, read):
    store = Store.open(folder)
    try:
        return read(store)
    finally:
        store.close()


def records(folder, **which):
    every = opened(folder, lambda store: list(store.records()))
    return [r for r in every if all(r[name] == value for name, value in which.items())]


@pytest.fixture(scope="module")
def tie(tmp_path_factory):
    """Two strategies that nothing decides between: all batches are added."""
    return study(tmp_path_factory.mktemp("until") / "tie")


class Told(Reporter):
    """Notes of each stage what it was told is left, and what the store of the folder says then."""

    def __init__(self, folder):
        self.folder, self.stages = folder, []

    def stage(self, title, steps, left):
        shown = opened(self.folder, lambda store: progress(store.facts(), store.counts()))
        self.stages.append((title, left, shown["stage"], shown["left"]))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return Told(tmp_path_factory.mktemp("until") / "dropped")


@pytest.fixture(scope="module")
def dropped(told):
    """The same beside one that learns nothing."""
    return study(told.folder, (*NAMES, SLOW), reporter=told)


def test_it_begins_as_the_study_that_is_judged_once(tie, tmp_path):
    once = thalweg.compare(small_task(), NAMES, out=tmp_path / "once", **ONCE)
    for rung in ("tune-1", "tune-2", "tune-3", "final"):
        first = records(once.folder, rung=rung)
        assert records(tie.folder, rung=rung)[: len(first)] == first
    assert (once.results["protocol"], tie.results["protocol"]) == (2, 3)
    assert once.results["run"]["last_look"] is None


def test_each_batch_continues_the_stream_on_seeds_that_the_strategies_share(tie):
    points = sobol(9, 0)
    for s in tie.results["strategies"]:
        added = records(tie.folder, rung="tune-4", strategy=s["name"])
        assert [r["key"] for r in added] == [f"{s['name']}/{i}" for i in range(4, 10)]
        assert [r["hyper"]["lr"] for r in added] == [configuration(s["space"], p)["lr"] for p in points[3:]]
        assert [r["seed"] for r in added] == [derive_seed(0, "tuning", i) % 2**31 for i in range(4, 10)]
        assert {r["steps"] for r in added} == {4}


def test_three_fifths_of_each_batch_go_on_to_the_end(dropped):
    study_of = opened(dropped.folder, lambda store: store.facts()["look 2"])
    assert study_of["records"]["tune-5"] == 4  # both trials of both strategies: ⌈3/5 · 2⌉
    for name in NAMES:
        ended = [r["key"] for r in records(dropped.folder, rung="tune-5", strategy=name)]
        assert ended == [f"{name}/{i}" for i in range(4, 10)]
    assert not records(dropped.folder, rung="tune-4", strategy="slow")


def test_a_final_run_trains_with_what_half_of_the_trials_so_far_choose(tie):
    """In the protocol's words, from the records alone; the two runs of a split share the trials."""
    tried = {run: 4 if run < 10 else 6 if run < 16 else 8 if run < 22 else 10 for run in range(27)}
    for s in tie.results["strategies"]:
        own = records(tie.folder, strategy=s["name"])
        last = {int(r["key"].split("/")[1]): r for r in own if r["rung"] != "final"}
        finals = [r for r in own if r["rung"] == "final"]
        assert [r["seed"] for r in finals] == [derive_seed(0, "final", i) % 2**31 for i in range(27)]
        for run, final in enumerate(finals):
            mine = [last[i] for i in half(tried[run], run, 0)]
            ended = [r for r in mine if r["steps"] == 12] or mine
            ranked = sorted(ended, key=lambda r: (-r["curve"]["valid_metric"][-1], r["curve"]["valid_loss"][-1]))
            assert final["hyper"]["lr"] == mean_of([r["hyper"] for r in ranked[:3]], s["space"])["lr"]


def test_what_was_added_is_told_and_paid_for(tie):
    stated, look = tie.results["budget"], tie.results["run"]["last_look"]
    assert (stated["trials"], stated["seeds"], stated["looks"]) == (3 + 3 * 2, 9 + 3 * 6, 4)
    assert (look["ended_by"], look["added_trials"], look["added_runs"]) == ("seeds", 6, 18)
    spent = dict.fromkeys(NAMES, 0)
    for r in records(tie.folder):
        spent[r["strategy"]] += r["steps"] - (4 if r["rung"] in ("tune-3", "tune-5") else 0)
    assert set(spent.values()) == {stated["gradient_evaluations_per_strategy"]}
    assert {s["gradient_evaluations"] for s in tie.results["strategies"]} == set(spent.values())
    said = "Not decided by all 3 batches that were added: 6 trials and 18 runs more of each strategy"
    assert any(line.startswith(said) for line in tie.details)
    assert said in (tie.folder / "report.html").read_text()


def test_a_strategy_that_is_behind_gets_no_more(dropped):
    found = {s["name"]: s for s in dropped.results["strategies"]}
    assert [len(found[name]["runs"]) for name in (*NAMES, "slow")] == [27, 27, 9]
    assert [found[name]["trials"] for name in (*NAMES, "slow")] == [10, 10, 4]
    assert found["slow"]["gradient_evaluations"] < found["nesterov"]["gradient_evaluations"]
    (behind,) = dropped.results["verdict"]["behind"]
    assert (behind["name"], behind["lost"], behind["runs"]) == ("slow", 9, 9)
    assert found["slow"]["failed"]["of"] == 9
    assert any("Batches were added for the strategies still in question alone" in n for n in dropped.results["notes"])
    page = (dropped.folder / "report.html").read_text()
    assert "The strategies that were in question to the end had the same budget" in page
    assert Comparison.open(dropped.folder).results == dropped.results


def test_one_that_is_decided_by_the_first_runs_adds_nothing(tmp_path):
    done = study(tmp_path / "s", ("adam", SLOW), steps=40)
    assert done.results["verdict"]["winner"] == "adam"
    assert (done.results["budget"]["seeds"], done.results["budget"]["trials"]) == (9, 3)
    assert "Decided by the first runs: no trials and no runs were added." in done.details


class Interrupt(Reporter):
    """Interrupts a study after so many reports of steps that were trained."""

    def __init__(self, after):
        self.left = after

    def advance(self, steps):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [450, 480])  # among the trials of the second batch, before and after their first rung
def test_interrupted_it_ends_alike(dropped, tmp_path, after):
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "s", (*NAMES, SLOW), reporter=Interrupt(after))
    again = study(tmp_path / "s", (*NAMES, SLOW))
    assert records(again.folder) == records(dropped.folder)
    assert again.results["verdict"] == dropped.results["verdict"]
    assert again.results["run"]["last_look"]["ended_by"] == "seeds"


def test_in_lanes_it_is_the_same_and_goes_on_alike(dropped, tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "compiler_missing", lambda: "kept short")
    trained = []
    run = Lanes.run
    monkeypatch.setattr(Lanes, "run", lambda self, jobs, *rest: (trained.extend(jobs), run(self, jobs, *rest))[1])
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "s", (*NAMES, SLOW), engine="lanes", reporter=Interrupt(60))
    again = study(tmp_path / "s", (*NAMES, SLOW), engine="lanes")
    assert {job.key for job in trained} == {r["key"] for r in records(again.folder)}
    for one, two in zip(records(again.folder), records(dropped.folder), strict=True):
        assert (one["rung"], one["key"], one["seed"], one["steps"]) == (
            two["rung"],
            two["key"],
            two["seed"],
            two["steps"],
        )
        assert one["hyper"] == pytest.approx(two["hyper"], rel=1e-3)
    assert again.results["verdict"]["candidates"] == dropped.results["verdict"]["candidates"]


def test_what_is_left_is_what_the_store_says_at_every_stage(dropped, told):
    assert [title for title, *_ in told.stages][4:7] == [
        "more tuning, first rung (batch 2)",
        "more tuning, the best to the end (batch 2)",
        "final runs on fresh seeds (batch 2)",
    ]
    for title, left, shown, still in told.stages:
        assert (title, left) == (shown, still)
    assert len(told.stages) == 4 + 3 * 3
    end = opened(dropped.folder, lambda store: progress(store.facts(), store.counts()))
    every = sum(r["steps"] - (4 if r["rung"] in ("tune-3", "tune-5") else 0) for r in records(dropped.folder))
    assert end == {"stage": "finished", "done": every, "left": 0}


budgets = st.builds(
    lambda trials, steps, seeds, looks: Budget(trials, steps, seeds, looks=looks, protocol=SEQUENTIAL),
    st.integers(1, 40),
    st.integers(1, 400),
    st.integers(1, 20),
    st.integers(1, 4),
)


@given(budgets)
def test_batches_add_up(b):
    assert 0.4 * b.trials <= b.added_trials < 0.4 * b.trials + 1
    assert 0.6 * b.seeds <= b.added_seeds < 0.6 * b.seeds + 2
    assert b.added_seeds % 2 == 0
    stages = b.stages()
    assert sum(s.runs * s.steps for s in stages) == b.tuning_evaluations + b.final_evaluations
    assert sum(s.runs for s in stages if s.rung in ("tune-1", "tune-2", "tune-4")) == b.trials_by(b.looks) + 1
    assert sum(s.runs for s in stages if s.rung == "final") == b.seeds_by(b.looks)
    for run in range(b.seeds_by(b.looks)):
        assert b.seeds_by(b.look_of(run) - 1) <= run < b.seeds_by(b.look_of(run))
        assert b.tried_for(run) == b.tried_for(run ^ 1) or run == b.seeds_by(b.looks) - 1
    assert Budget.from_design({"protocol": SEQUENTIAL, "budget": b.stated()}) == b


PLAN = Budget(12, 3, 10, looks=4, protocol=SEQUENTIAL)
DESIGN = {"task": {"direction": "max", "metric": "accuracy"}, "within": None, "protocol": 3, "budget": PLAN.stated()}


def judged(scores):
    return judge(DESIGN, scores, Untrained({"": [0.1]}, 0.1), dict.fromkeys(scores, ""))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_strategy_that_was_behind_at_a_look_stays_behind(seed):
    draws = np.random.default_rng(seed)
    level, luck = draws.normal(0.6, 0.1, 5), draws.normal(0, 0.05, (5, 28))
    every = {
        n: np.where(draws.random(28) < 0.1, 0.1, x).tolist()
        for n, x in zip("abcde", level[:, None] + luck, strict=True)
    }
    going, runs, gone = list(every), dict.fromkeys(every, 0), set()
    for look in range(1, 5):
        runs |= dict.fromkeys(going, PLAN.seeds_by(look))
        verdict = decide(judged({name: own[: runs[name]] for name, own in every.items()}))
        assert not gone & {*verdict.candidates}
        gone = {one.name for one in verdict.behind}
        going = [name for name in going if name in verdict.candidates]
        if verdict.is_decided:
            break


@pytest.mark.parametrize("apart", [0.0, 0.02, 0.04])
def test_a_gain_counts_once_it_is_twice_the_distance_of_the_halves(apart):
    """All runs are won, and the rank test is passed; by how much the halves of each split differ decides."""
    b = [0.5 + 0.001 * i for i in range(10)]
    a = [x + 0.05 + (apart if i % 2 else -apart) for i, x in enumerate(b)]
    found = judged({"a": a, "b": b})
    assert signed_rank(found.gains("a", "b")) == 2.0**-10 <= found.level
    inside = found.relative_gains("a", "b")
    assert found.beats("a", "b") == (apart < 0.025) == (np.mean(inside) >= 2 * math.sqrt(between_halves(inside)))


def test_which_runs_failed_does_not_change_as_more_are_made():
    first = {"a": [0.9] * 10, "b": [0.17] * 10}  # a tenth of the way is 0.18
    assert judged(first).runs["b"].failed == [True] * 10
    later = judged({"a": first["a"] + [0.12] * 18, "b": first["b"]})
    assert later.runs["b"].failed == [True] * 10
