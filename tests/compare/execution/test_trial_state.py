"""The state of a trial between two rungs: stored by keys that older studies have, and taken up again whole."""

import pytest
import torch
from torch import nn

from tests.compare.small import job, small_task, task_context
from tests.conformance.test_engines import quiet
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.serial import Serial
from thalweg.compare.execution.trial_state import TrialState
from thalweg.compare.strategy.variants import Variant, built


@pytest.fixture(scope="module")
def context():
    def model():
        return nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))

    return task_context(built(small_task(model=model), Variant("", "batch-norm")))


@pytest.mark.parametrize("engine", [Serial, lambda context: Lanes(context, 1, compile_=False)], ids=["serial", "lanes"])
def test_a_rules_state_has_the_keys_of_older_studies(context, engine):
    stored = engine(context).run([job("adam+ema", 0.01)], quiet)[0].snapshot
    buffers = [name for name, _ in context.model.named_buffers()]
    means = {f"average.buffer.{name}" for name in buffers if "running" in name}
    assert means | {"params", "exp_avg", "exp_avg_sq", "average", *(f"buffer.{n}" for n in buffers)} <= set(stored)
    assert all(key.startswith(("average.buffer.", "buffer.")) for key in set(stored) if "." in key)


def test_an_optimizers_state_has_the_keys_of_older_studies(context):
    model = {f"model.{name}" for name in context.model.state_dict()}
    adam, lbfgs = (
        Serial(context).run([job(name, stop=60, total=60, evaluate_every=30)], quiet)[0].snapshot
        for name in ("torch.optim.Adam+polyak", "lbfgs")
    )
    assert model | {"step", "state.0.0.exp_avg", "state.0.0.step"} <= set(adam)
    assert any(key.startswith("means.") for key in adam)
    assert model | {"spent", "round"} <= set(lbfgs)
    assert {key.partition(".")[0] for key in adam} <= {"model", "state", "means", "copies", "step"}
    assert {key.partition(".")[0] for key in lbfgs} <= {"model", "state", "spent", "round"}


@pytest.mark.parametrize("name", ["adam+ema", "torch.optim.Adam+polyak", "lbfgs"])
def test_what_is_read_is_written_again_bit_for_bit(context, name):
    stored = Serial(context).run([job(name, stop=60, total=60, evaluate_every=30)], quiet)[0].snapshot
    again = TrialState.decode(stored).encode()
    assert set(again) == set(stored)
    assert all(torch.equal(again[key], value) for key, value in stored.items())
