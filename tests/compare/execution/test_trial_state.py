"""The state of a trial between two rungs: all of it is stored, and taken up again whole."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.compare.small import job, small_task, task_context
from tests.conformance.test_engines import quiet
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.serial import Serial
from thalweg.compare.execution.trial_state import TrialState
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.variants import Variant, built


@pytest.fixture(scope="module")
def context():
    def model():
        return nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))

    return task_context(built(small_task(model=model), Variant("", "batch-norm")))


@pytest.mark.parametrize("engine", [Serial, lambda context: Lanes(context, 1, compile_=False)], ids=["serial", "lanes"])
def test_a_rules_state_stands_by_slots(context, engine):
    stored = engine(context).run([job("adam+ema", 0.01)], quiet)[0].snapshot
    buffers = [name for name, _ in context.model.named_buffers()]
    means = {f"average.buffer.{name}" for name in buffers if "running" in name}
    assert means | {"params", "exp_avg", "exp_avg_sq", "average", *(f"buffer.{n}" for n in buffers)} <= set(stored)
    assert all(key.startswith(("average.buffer.", "buffer.")) for key in set(stored) if "." in key)


def test_an_optimizers_state_stands_by_number_beside_its_tree(context):
    model = {f"model.{name}" for name in context.model.state_dict()}
    adam, lbfgs = (
        Serial(context).run([job(name, stop=60, total=60, evaluate_every=30)], quiet)[0].snapshot
        for name in ("torch.optim.Adam+polyak", "lbfgs")
    )
    assert model | {"step", "state.tree", "state.0", "state.1"} <= set(adam)
    assert any(key.startswith("means.") for key in adam)
    assert model | {"spent", "round"} <= set(lbfgs)
    own = {"round", "saved", "cost", "form"}
    assert {key.partition(".")[0] for key in adam} <= {"model", "state", "means", "copies", "step"} | own
    assert {key.partition(".")[0] for key in lbfgs} <= {"model", "state", "spent", "round"}


@pytest.mark.parametrize("name", ["adam+ema", "torch.optim.Adam+polyak", "lbfgs"])
def test_what_is_read_is_written_again_bit_for_bit(context, name):
    stored = Serial(context).run([job(name, stop=60, total=60, evaluate_every=30)], quiet)[0].snapshot
    again = TrialState.decode(stored).encode()
    assert set(again) == set(stored)
    assert all(torch.equal(again[key], value) for key, value in stored.items())


class Nested(torch.optim.Optimizer):
    """Gradient descent by a rate that it finds, with state of every shape in its state_dict()."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr, "d": 1.0, "betas": (0.9, 0.99), "k": 0, "name": "nested", "none": None})
        self.state["whole"] = {"total": torch.zeros((), dtype=torch.float64)}
        self.points = "train"

    def train(self):
        self.points = "train"

    def eval(self):
        self.points = "eval"

    @torch.no_grad()
    def step(self, closure=None):
        assert self.points == "train"
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            group["k"] += 1
            group["d"] *= 0.97
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    wide = torch.zeros_like(p, dtype=torch.float64)
                    state |= {"Q": [torch.eye(2), {"inner": wide}], "step": 0, "seen": []}
                state["Q"][1]["inner"].lerp_(p.grad.double(), 0.1)
                state["step"] += 1
                state["seen"] = [*state["seen"][-2:], float(p.grad.norm())]
                total = self.state["whole"]["total"]
                total += p.grad.norm()
                p.sub_(state["Q"][1]["inner"].to(p.dtype), alpha=group["lr"] * group["d"] / (1 + float(total)))
        return loss


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whatever_a_state_dict_holds_goes_through_the_cut_bit_for_bit(dtype):
    context = task_context(small_task(dtype))
    nested = Strategy("nested", factory=Nested, defaults={"lr": 0.1})
    whole, first = Serial(context), Serial(context)
    straight = whole.run([job(nested, stop=60, total=60, evaluate_every=20)], quiet)[0]
    cut = first.run([job(nested, stop=20, total=60, evaluate_every=20)], quiet)[0]
    rest = job(nested, start=20, stop=60, total=60, evaluate_every=20)
    rest = replace(rest, snapshot=TrialState.decode(cut.snapshot).encode(), first_loss=cut.first_loss)
    gone_on = Serial(context).run([rest], quiet)[0]
    assert gone_on.curve.valid_loss == straight.curve.valid_loss[1:]
    assert all(torch.equal(gone_on.snapshot[key], value) for key, value in straight.snapshot.items())


def test_what_cannot_be_stored_is_a_result_that_names_it():
    class Odd(Nested):
        def __init__(self, params, lr=0.1):
            super().__init__(params, lr)
            self.param_groups[0]["kept"] = torch.bfloat16  # a setting that the optimizer is made with
            self.state["odd"] = {"what": object()}

    odd = Strategy("odd", factory=Odd, defaults={"lr": 0.1})
    (result,) = Serial(task_context(small_task())).run([job(odd, stop=20, total=60)], quiet)
    assert result.status == "could not run"
    assert "cannot be interrupted: the optimizer's state_dict() holds a object, so that no trial" in result.reason
