"""Which engine trains what: memory bounds the lanes, a choice can be taken up again, any optimizer finds its place."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.compare.small import job, small_task, task_context
from thalweg.compare.execution.factory import make_optimizers
from thalweg.compare.execution.selection import EngineSelector, lane_bytes
from thalweg.compare.execution.stackable import Unstackable
from thalweg.compare.strategy import Strategy
from thalweg.tensors import compiling

RUNGS = [(40, 100), (10, 300)]


def quiet(steps):
    """No progress."""


@pytest.mark.parametrize("lanes", [1, 3, 7])
def test_memory_bounds_the_lanes(lanes):
    context = task_context()
    bounded = EngineSelector(context, "lanes", lanes * lane_bytes(context), RUNGS)
    assert 1 <= bounded._width() <= lanes
    assert EngineSelector(context, "lanes", None, RUNGS)._width() > 7


def test_a_lane_is_charged_for_what_it_keeps():
    small, large = (
        task_context(),
        task_context(small_task(model=lambda: nn.Sequential(nn.Linear(6, 500), nn.Linear(500, 3)))),
    )
    assert lane_bytes(small) > 4 * 4 * small.layout.size  # parameters, gradient and two moments at least
    assert lane_bytes(large) > 10 * lane_bytes(small)


def test_little_work_is_not_worth_compiling_and_the_reason_says_so():
    selector = EngineSelector(task_context(), "auto", None, RUNGS)
    threads = torch.get_num_threads()
    choice = selector.choose([Strategy.parse("adam")], job("adam"))[0]
    assert (choice.name, choice.width) == ("serial", 1)
    assert "less than compiling lanes" in choice.reason
    assert choice.serial_threads in (1, threads)
    assert torch.get_num_threads() == threads


def test_a_loss_that_torch_cannot_compile_in_lanes_is_trained_serially_and_the_reason_says_so(monkeypatch):
    def loss(output, target):
        print(end="")
        return nn.functional.cross_entropy(output, target)

    monkeypatch.setattr("thalweg.compare.execution.selection.COMPILE_SECONDS", 0.0)
    context, strategies = task_context(replace(small_task(), loss=loss)), [Strategy.parse("sgd")]
    auto = EngineSelector(context, "auto", 2**24, [(40, 3000)])
    (choice,) = auto.choose(strategies, job("sgd"))
    assert choice.name == "serial"
    assert choice.reason.startswith("lanes are not possible: torch cannot compile it (")
    assert auto.engine_of(strategies[0]).run([job("sgd")], quiet)[0].status == "finished"
    auto.wanted = "lanes"
    with pytest.raises(Unstackable, match="torch cannot compile it"):
        auto.choose(strategies, job("sgd"))


def test_a_resumed_study_takes_up_the_stored_choice(monkeypatch):
    monkeypatch.setattr(compiling, "compiler_missing", lambda: "kept short")
    adam, own = Strategy.parse("adam"), Strategy("own", factory=torch.optim.SGD)
    selector = EngineSelector(task_context(), "lanes", None, RUNGS)
    stored = [choice.as_dict() for choice in selector.choose([adam, own], job("adam"))]
    again = EngineSelector(task_context(), "auto", None, RUNGS)
    again.reuse([adam, own], stored)
    assert [choice.as_dict() for choice in again.choices] == stored
    assert again.engine_of(adam).width == selector.engine_of(adam).width
    assert again.engine_of(own) is again.serial
    assert again.serial.threads == selector.serial.threads


def test_an_optimizer_that_cannot_take_part_says_why():
    context = task_context()
    for factory, match in (
        (lambda params, lr: 3, "gives a int, not a torch.optim.Optimizer"),
        (nn.Linear, "cannot step"),
    ):
        with pytest.raises(ValueError, match=match):
            make_optimizers(Strategy("s", factory=factory), context.model, {"lr": 0.1})
