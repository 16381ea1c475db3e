"""What a model keeps in plain attributes goes on with a trial that is cut, and what cannot be saved is said."""

import random
from collections import Counter, OrderedDict, deque

import numpy as np
import pytest
import torch
from torch import nn

from tests.compare.small import job, parts, small_task, task_context
from thalweg.compare.execution.attributes import Attributes, put_attributes
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.plain import packed, unpacked
from thalweg.compare.execution.serial import Serial
from thalweg.compare.execution.stackable import unlike_reason
from thalweg.compare.strategy import Strategy
from thalweg.compare.study.prepare import UNSAVED, _varied
from thalweg.compare.task import Task, materialize


class Keeps(nn.Module):
    """It makes less noise with each step, which it draws itself, and adds a mean of its outputs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.steps, self.ema, self.rng, self.recent = 0, {}, np.random.default_rng(0), deque(maxlen=3)
        self.register_buffer("scale", torch.ones(()), persistent=False)

    def forward(self, x):
        out = self.layer(x)
        if self.training:
            self.steps += 1
            mean = out.detach().mean(0)
            self.ema["out"] = 0.9 * self.ema["out"] + 0.1 * mean if "out" in self.ema else mean
            self.recent.append(float(mean[0]))
            self.scale *= 0.99
            out = out + self.ema["out"] + sum(self.recent) + self.scale * self.rng.normal() / self.steps
        return out


def cut(context, strategy, at=14):
    ignore = lambda n: None  # noqa: E731
    whole = Serial(context).run([job(strategy, 0.01)], ignore)[0]
    first = Serial(context).run([job(strategy, 0.01, stop=at, test=False)], ignore)[0]
    rest = job(strategy, 0.01, start=at, snapshot=first.snapshot, first_loss=first.first_loss)
    return whole, Serial(context).run([rest], ignore)[0]


@pytest.mark.parametrize("name", ["adam", "adam+ema", "torch.optim.SGD"])
def test_a_trial_that_is_cut_goes_on_with_the_attributes_of_its_model(name):
    whole, rest = cut(task_context(small_task(model=Keeps)), Strategy.parse(name))
    assert whole.snapshot.keys() == rest.snapshot.keys()
    assert all(torch.equal(whole.snapshot[key], rest.snapshot[key]) for key in whole.snapshot)
    assert whole.test == rest.test


def test_a_model_that_keeps_nothing_has_nothing_saved():
    whole, _ = cut(task_context(), "adam")
    assert not [key for key in whole.snapshot if key.startswith("attribute")]


def test_models_that_keep_numbers_are_not_stacked():
    assert unlike_reason(task_context(small_task(model=Keeps)), []).startswith("the model keeps ")


VALUES = {
    "tensor": torch.arange(3),
    "array": np.arange(6.0).reshape(2, 3),
    "scalar": np.float32(0.5),
    "numbers": [1, (2.5, None), {"a": True}],
    "nested": OrderedDict(b={3: torch.ones(2)}),
    "counted": Counter("abca"),
    "set": {3, 1},
    "deque": deque([1, 2], maxlen=2),
    "nan": float("nan"),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_are_put_back_as_they_were(name):
    fresh, model, other = nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1)
    kept = Attributes(fresh)
    model.own = VALUES[name]
    changed = kept.changed(model)
    assert list(changed) == [".own"]
    put_attributes(other, unpacked(packed(changed, "it")))
    assert type(other.own) is type(model.own)
    assert not Attributes(model).changed(other)
    assert repr(other.own) == repr(model.own)


@pytest.mark.parametrize("made", [torch.Generator, lambda: np.random.default_rng(1), lambda: random.Random(1)])
def test_generators_go_on(made):
    model, other = nn.Linear(1, 1), nn.Linear(1, 1)
    model.own, other.own = made(), made()
    kept = Attributes(model)
    draw = torch.rand if isinstance(model.own, torch.Generator) else None

    def drawn(of):
        return float(draw((), generator=of.own)) if draw else of.own.random()

    drawn(model)
    put_attributes(other, unpacked(packed(kept.changed(model), "it")))
    assert drawn(model) == drawn(other)


class Meter:
    def __init__(self):
        self.total = 0.0


class Measures(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.meter, self.idle = nn.Linear(6, 3), Meter(), Meter()

    def forward(self, x):
        self.meter.total += float(x.detach().sum())
        return self.layer(x)


def test_what_cannot_be_saved_is_said_in_one_line():
    task = small_task(model=Measures)
    context = task_context(task)
    assert context.unsaved() == [".meter"]
    assert UNSAVED.format("meter") in _varied(task, context)
    assert task_context().unsaved() == []
    assert unlike_reason(context, []) == "the model keeps meter from batch to batch"


def test_hooks_that_an_evaluation_leaves_are_removed():
    calls = []

    def step(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def evaluate(model, batches):
        model[0].register_forward_hook(lambda *_: calls.append(1))
        model.register_forward_pre_hook(lambda *_: None)
        return {"loss": sum(float(step(model, batch)) for batch in batches)}

    def build():
        model = nn.Sequential(nn.Linear(6, 3))
        model.register_forward_hook(lambda *_: None)  # its own
        return model

    task = Task(build, *parts(), step=step, evaluate=evaluate)
    context = TaskContext(task, materialize(task), torch.device("cpu"))
    model = context.fresh_model("default", 0)
    for _ in range(3):
        calls.clear()
        context.evaluate(model, context.data.valid)
        assert len(calls) == len(context.data.valid.chunks())
    assert not model[0]._forward_hooks
    assert len(model._forward_hooks) == 1
    assert not model._forward_pre_hooks
