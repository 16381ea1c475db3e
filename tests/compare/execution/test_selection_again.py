"""The choice of engine on a busy machine: a scripted clock, and a study that chooses again."""

import pytest
import torch
from torch import nn

import thalweg
from tests.compare.small import job, small_task, task_context
from tests.compare.study.test_study import Interrupt, records
from thalweg.compare.design import Budget
from thalweg.compare.execution import selection, serial, timing
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.selection import EngineSelector
from thalweg.compare.rungs import Stage
from thalweg.compare.storage.store import Store
from thalweg.compare.strategy import Strategy
from thalweg.compare.study.reporter import Reporter
from thalweg.compare.study.study import choose_again
from thalweg.compare.study.unfinished import pace
from thalweg.tensors import compiling

RUNGS = [(40, 30_000), (10, 30_000)]
ALONE = 3e-4  # seconds of a step
ADAM = [Strategy.parse("adam")]


class Machine:
    """A clock that steps alone move, by what they take on an idle machine times the load of the moment.

    ``per_lane`` seconds are those of a stacked step for each of its lanes; ``barriers`` is a further factor of stacked
    steps with several threads.
    """

    def __init__(self, monkeypatch, per_lane=ALONE / 10, load=lambda time: 1.0, barriers=1.0):
        self.time, self.per_lane, self.load, self.barriers = 0.0, per_lane, load, barriers

        def gradient(flat, buffers, rows):
            self.takes(len(flat) * self.per_lane * (self.barriers if torch.get_num_threads() > 1 else 1.0))
            return torch.zeros(len(flat)), torch.zeros_like(flat), buffers

        monkeypatch.setattr(timing, "now", lambda threads: self.time)
        monkeypatch.setattr(serial._RuleRun, "step", lambda run, rows, t: self.takes(ALONE))
        monkeypatch.setattr(Lanes, "_gradient_kernel", lambda lanes: gradient)
        monkeypatch.setattr(compiling, "compiler_missing", lambda: "kept short")

    def takes(self, seconds):
        self.time += seconds * self.load(self.time)


def bursts(length):
    """Returns a load that comes and goes, each for so many seconds."""
    return lambda time: 30.0 if time % (2 * length) < length else 1.0


LOADS = {
    "none": lambda time: 1.0,
    "all the time": lambda time: 7.0,
    "at the beginning": lambda time: 40.0 if time < 4 else 1.0,
    "short bursts": bursts(0.01),
    "bursts": bursts(1.7),
    "long bursts": bursts(20.0),
    "ever less": lambda time: 1 + 20 / (1 + time),
}


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
@pytest.mark.parametrize(
    ("per_lane", "expected"), [(ALONE / 10, "lanes"), (2 * ALONE, "serial"), (13 * ALONE, "serial")]
)
def test_whatever_else_the_machine_does_the_choice_is_that_of_an_idle_one(monkeypatch, load, per_lane, expected):
    Machine(monkeypatch, per_lane, load)
    selector = EngineSelector(task_context(), "auto", None, RUNGS)
    (choice,) = selector.choose(ADAM, job("adam"))
    assert choice.name == expected
    assert choice.reason.startswith("measured in turns")
    assert "convolution" not in choice.reason  # a perceptron has none
    assert (selector.engine_of(ADAM[0]) is selector.lanes) == (expected == "lanes")


def test_convolutions_are_named_where_there_are_some(monkeypatch):
    def model():
        return nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 3, 6), nn.Flatten())

    Machine(monkeypatch, 13 * ALONE)
    (choice,) = EngineSelector(task_context(small_task(model=model)), "auto", None, RUNGS).choose(ADAM, job("adam"))
    assert choice.name == "serial"
    assert choice.reason == (
        "measured in turns: stacked steps take 13.0 times as long as single steps (typical of convolutions on a CPU)"
    )


def test_threads_that_are_held_up_do_not_hide_that_lanes_are_fast(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        Machine(monkeypatch, barriers=132.0)
        selector = EngineSelector(task_context(), "auto", None, RUNGS)
        (choice,) = selector.choose(ADAM, job("adam"))
    finally:
        torch.set_num_threads(before)
    assert (choice.name, selector.lanes.threads) == ("lanes", 1)
    assert choice.reason == f"measured in turns: 30 µs per trial-step in {choice.width} lanes, 300 µs serially"
    resumed = EngineSelector(task_context(), "auto", None, RUNGS)
    resumed.reuse(ADAM, [choice.as_dict()])
    assert resumed.lanes.threads == 1


def test_lanes_take_over_once_they_are_fast(monkeypatch):
    machine = Machine(monkeypatch, 2 * ALONE)
    selector = EngineSelector(task_context(), "auto", None, RUNGS)
    (choice,) = selector.choose(ADAM, job("adam"))
    assert choice.name == "serial"
    assert choice.reason == f"measured in turns: 300 µs serially, 600 µs per trial-step in {selector.lanes.width} lanes"
    machine.per_lane = ALONE / 10
    selector.choose_again(ADAM, job("adam"), RUNGS[1:])
    (choice,) = selector.choices
    assert choice.name == "lanes"
    assert choice.reason == (
        f"measured in turns: 30 µs per trial-step in {choice.width} lanes, 300 µs serially; "
        "chosen again, with the same results to rounding"
    )
    assert selector.engine_of(ADAM[0]) is selector.lanes


@pytest.mark.parametrize(("first", "then"), [(0.5, 0.95), (0.5, 1.2), (2.0, 1.05), (2.0, 0.85)])
def test_what_trains_goes_on_unless_the_other_is_much_faster(monkeypatch, first, then):
    machine = Machine(monkeypatch, first * ALONE)
    selector = EngineSelector(task_context(), "auto", None, RUNGS)
    before = selector.choose(ADAM, job("adam"))
    machine.per_lane = then * ALONE
    selector.choose_again(ADAM, job("adam"), RUNGS[1:])
    assert selector.choices == before


def test_little_that_is_left_is_not_worth_measuring(monkeypatch):
    Machine(monkeypatch, 2 * ALONE)
    selector = EngineSelector(task_context(), "auto", None, RUNGS)
    before = selector.choose(ADAM, job("adam"))
    monkeypatch.setattr(selector, "_in_turns", lambda *_: pytest.fail("measured"))
    selector.choose_again(ADAM, job("adam"), [(10, 100)])
    assert selector.choices == before


def test_another_number_of_threads_is_chosen_and_said(monkeypatch):
    before, slow = torch.get_num_threads(), {1: 1.0, 2: 30.0}
    torch.set_num_threads(2)
    try:
        machine = Machine(monkeypatch, load=lambda time: slow[torch.get_num_threads()])
        selector = EngineSelector(task_context(), "serial", None, RUNGS)
        (choice,) = selector.choose(ADAM, job("adam"))
        assert (choice.serial_threads, choice.reason) == (1, "asked for")
        slow[2] = 0.5  # nothing else runs any more
        selector.choose_again(ADAM, job("adam"), RUNGS[1:])
        (choice,) = selector.choices
        assert (choice.name, choice.serial_threads) == ("serial", 2)
        assert choice.reason == "asked for; chosen again, with the same results to rounding, on 2 threads"
        slow[2] = 5.0
        selector.choose_again(ADAM, job("adam"), RUNGS[1:])
    finally:
        torch.set_num_threads(before)
    assert selector.choices[0].reason == "asked for; chosen again, with the same results to rounding, on 1 thread"
    assert machine.time > 0


class Saying(Reporter):
    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


@pytest.fixture
def busy_at_first(monkeypatch):
    """Lanes are measured to be slow, until a rung is trained; then fast. Returns the list of what was measured."""
    measured = []

    def in_turns(selector, lanes, alone, job):
        measured.append(len(measured))
        return (2e-3, 1e-3) if measured[-1] < 2 else (1e-4, 1e-3)  # for a rough look and compiled, then again

    monkeypatch.setattr(selection, "COMPILE_SECONDS", 0.0)
    monkeypatch.setattr(EngineSelector, "_in_turns", in_turns)
    monkeypatch.setattr(compiling, "compiler_missing", lambda: "kept short")
    return measured


OWN = Strategy("own", factory=torch.optim.SGD)
STUDY = {"trials": 4, "steps": 12, "seeds": 3, "engine": "auto"}


def study(out, reporter=None, **options):
    given = {**STUDY, **options}
    return thalweg.compare(small_task(torch.float64), ("sgd", "adam", OWN), out=out, reporter=reporter, **given)


def test_a_study_that_began_on_a_busy_machine_goes_on_in_lanes_and_every_record_says_what_trained_it(
    tmp_path, busy_at_first, monkeypatch
):
    trained = []
    run = Lanes.run
    monkeypatch.setattr(Lanes, "run", lambda self, jobs, *rest: (trained.extend(jobs), run(self, jobs, *rest))[1])
    reporter = Saying()
    done = study(tmp_path / "s", reporter)
    mine = [e for e in done.results["engine"] if e["group"] == "update rules (2 strategies)"]
    second = "tuning, configurations near the best"
    assert [(e["name"], e["from"]) for e in mine] == [("serial", None), ("lanes", second)]
    assert [e["from"] for e in done.results["engine"] if e["group"] == "own"] == [None]
    again = f"engine for update rules (2 strategies) from here on: lanes ({mine[1]['reason']})"
    assert mine[1]["reason"].endswith("chosen again, with the same results to rounding")
    assert reporter.lines.count(again) == 1
    page = (done.folder / "report.html").read_text()
    assert f"update rules (2 strategies) from “{second}” on: lanes (measured in turns" in page
    in_lanes = {job.key for job in trained}
    assert in_lanes == {r["key"] for r in records(tmp_path / "s") if r["rung"] != "tune-1" and r["strategy"] != "own"}
    whole = study(tmp_path / "whole", engine="serial")
    for one, two in zip(records(tmp_path / "s"), records(tmp_path / "whole"), strict=True):
        assert one["curve"]["valid_loss"] == pytest.approx(two["curve"]["valid_loss"], rel=1e-9)
    for one, two in zip(done.results["strategies"], whole.results["strategies"], strict=True):
        assert one["test"]["per_seed"] == pytest.approx(two["test"]["per_seed"])


@pytest.mark.parametrize("after", [9, 20])
def test_a_study_cut_off_goes_on_with_what_each_rung_was_chosen(tmp_path, busy_at_first, monkeypatch, after):
    whole = study(tmp_path / "whole")
    busy_at_first.clear()
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "cut", Interrupt(after))
    facts = Store.open(tmp_path / "cut").facts()
    begun = "engine tune-2" in facts
    if begun:
        assert pace(facts) == pytest.approx((2 * 1e-4 + 1 / facts["engine"][1]["trial_steps_per_second"]) / 3)
    elif len(busy_at_first) == 2:
        assert pace(facts) > 1e-4
    done = study(tmp_path / "cut")
    assert records(tmp_path / "cut") == records(tmp_path / "whole")
    assert [(e["group"], e["name"], e["from"]) for e in done.results["engine"]] == [
        (e["group"], e["name"], e["from"]) for e in whole.results["engine"]
    ]


def test_a_rung_that_is_begun_stays_with_its_engine(tmp_path, busy_at_first):
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "s", Interrupt(9), engine="serial")
    store = Store.open(tmp_path / "s", write=True)
    (rung,) = {r["rung"] for r in store.records()}
    measured = []

    class LocalEngines:
        choices = ()

        def choose_again(self, seed, number):
            measured.append(number)

    later = Stage("final", 2, 6, 12)  # a batch that is added stays with what the first one was trained by
    for stage in (*Budget(4, 12, 3).stages()[:3], later):
        choose_again(LocalEngines(), store, 0, print, stage)
    assert rung == "tune-1"
    assert measured == [1, 2]  # not the one that has records
    store.close()
