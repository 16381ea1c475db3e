"""Too little memory, too much time, an error of the user's: what can go on goes on, and the rest is a line."""

import warnings
from dataclasses import replace

import pytest
import torch

import thalweg
from tests.compare.small import job, small_task, task_context
from tests.waiting import LONG, hang
from thalweg.compare.execution import selection
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.serial import Serial
from thalweg.compare.strategy import Strategy
from thalweg.compare.user_errors import TaskError


def quiet(steps):
    pass


class Narrow(Lanes):
    """Lanes on a device with memory for so many, once they have trained a while."""

    fits = 2
    lasts = 12  # calls

    def _gradient_kernel(self):
        inner, self.calls = super()._gradient_kernel(), 0

        def gradient(flat, buffers, batch):
            self.calls += 1
            if len(flat) > self.fits and self.calls > self.lasts:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return inner(flat, buffers, batch)

        return gradient


def jobs(count, **options):
    return [job("adam", 0.01 * (k + 1), key=str(k), **options) for k in range(count)]


def test_lanes_that_run_out_of_memory_go_on_in_fewer():
    lanes = Narrow(task_context(), 8, compile_=False)
    with pytest.warns(UserWarning, match="memory ran out with 4 lanes: continuing with 2"):
        found = lanes.run(jobs(11), quiet)
    assert lanes.width == 2
    whole = Lanes(task_context(), 2, compile_=False).run(jobs(11), quiet)
    for result, expected in zip(found, whole, strict=True):
        assert (result.key, result.status, result.curve.step) == (expected.key, expected.status, expected.curve.step)
        assert result.curve.valid_loss == pytest.approx(expected.curve.valid_loss, rel=1e-5)


@pytest.mark.parametrize("calls", [0, 12], ids=["at once", "while they are measured"])
def test_lanes_that_run_out_of_memory_as_they_are_chosen_are_fewer(monkeypatch, calls):
    monkeypatch.setattr(Narrow, "lasts", calls)
    monkeypatch.setattr(selection, "Lanes", lambda context, width, compile_=False: Narrow(context, width, False))
    selector = selection.EngineSelector(task_context(), "lanes", None, [(8, 30)])
    monkeypatch.setattr(Narrow, "probe", lambda lanes: None)
    with warnings.catch_warnings(action="ignore"):
        (choice,) = selector.choose([Strategy.parse("adam")], job("adam"))
    assert (choice.name, choice.width) == ("lanes", 2)


def test_a_single_lane_without_memory_is_an_error_that_says_so():
    lanes = Narrow(task_context(), 2, compile_=False)
    lanes.fits = 0
    message = "single lane: lower the task's batch_size"
    with pytest.warns(UserWarning, match="with 2 lanes"), pytest.raises(MemoryError, match=message):
        lanes.run(jobs(2), quiet)


class Counting:
    """A loss that counts its calls, and does something at one of them."""

    def __init__(self, at, does=hang):
        self.at, self.does, self.calls = at, does, 0

    def __call__(self, output, target):
        self.calls += 1
        if self.calls == self.at:
            self.does()
        return torch.nn.functional.cross_entropy(output, target)


def task_of(loss):
    return replace(small_task(), loss=loss, metric="loss")


def test_a_trial_that_hangs_is_cut_off_and_the_next_is_as_ever():
    expected = Serial(task_context(task_of(Counting(0)))).run(jobs(3), quiet)
    found = Serial(task_context(task_of(Counting(12)))).run(jobs(3, limit=LONG), quiet)
    assert [o.status for o in found] == ["timed out", "finished", "finished"]
    assert [o.curve for o in found[1:]] == [o.curve for o in expected[1:]]


def test_lanes_that_hang_run_one_by_one():
    found = Lanes(task_context(task_of(Counting(9))), 3, compile_=False).run(jobs(3, limit=LONG), quiet)
    assert [o.status for o in found] == ["finished"] * 3


class Hanging(torch.optim.SGD):
    """Hangs at its eighth step."""

    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.count = 0

    def step(self, closure=None):
        self.count += 1
        if self.count == 8:
            hang()
        return super().step(closure)


def test_a_study_counts_what_timed_out_as_diverged_and_says_so(tmp_path):
    hung = thalweg.Strategy("hung", factory=Hanging, defaults={"lr": 0.1}, space={"lr": (0.01, 1.0)})
    options = {"trials": 1, "steps": 30, "seeds": 2, "engine": "serial", "trial_seconds": LONG}
    done = thalweg.compare(small_task(), ("sgd", hung), out=tmp_path / "out", **options).results
    s = next(s for s in done["strategies"] if s["name"] == "hung")
    assert (s["trials"], s["diverged"], s["failed"]["count"], s["failed"]["of"]) == (2, 2, 2, 2)
    assert s["test"]["per_seed"] == [None, None]
    assert "4 runs exceeded the time limit and count as diverged." in done["notes"]
    assert done["verdict"]["winner"] != "hung"


def test_a_limit_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="trial_seconds must be a number above 0"):
        thalweg.compare(small_task(), ("sgd",), out=tmp_path / "out", trial_seconds=0)


def test_an_error_in_training_is_a_line_with_its_place_and_the_study_goes_on_once_it_is_corrected(tmp_path):
    def broken():
        raise RuntimeError("the 300th batch\nis broken")

    options = {"trials": 4, "steps": 60, "seeds": 2, "engine": "serial"}
    loss = Counting(300, broken)
    expected = r"training raises RuntimeError: the 300th batch \(test_shortage.py, line \d+\): correct it, and resume"
    with pytest.raises(TaskError, match=expected):
        thalweg.compare(task_of(loss), ("sgd",), out=tmp_path / "out", **options)
    corrected = thalweg.compare(task_of(loss), ("sgd",), out=tmp_path / "out", **options).results
    whole = thalweg.compare(task_of(loss), ("sgd",), out=tmp_path / "whole", **options).results
    assert [s["test"] for s in corrected["strategies"]] == [s["test"] for s in whole["strategies"]]
