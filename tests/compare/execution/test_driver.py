"""Optimizers of any form are driven as their authors' loops do, charged for what they evaluate, and cut anywhere."""

import random
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.compare.small import job, small_task, task_context
from thalweg import Strategy
from thalweg.compare.execution.serial import Serial


class SGD(torch.optim.SGD):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)


class Ascending(SGD):
    """SAM: the gradient is there when the step begins, and the closure is its second one."""

    @torch.no_grad()
    def step(self, closure=None):
        assert closure is not None, "give a closure"
        params = [p for group in self.param_groups for p in group["params"]]
        moved = [0.05 * p.grad / (1e-12 + p.grad.norm()) for p in params]
        torch._foreach_add_(params, moved)
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        torch._foreach_sub_(params, moved)
        super().step()
        return loss


class Twice(Ascending):
    """The same as a step that evaluates both itself."""

    def step(self, closure):
        closure()
        return super().step(closure)


class Curved(SGD):
    """It differentiates its gradients."""

    def step(self, closure=None):
        params = [p for group in self.param_groups for p in group["params"]]
        products = torch.autograd.grad([p.grad for p in params], params, [p.detach() for p in params])
        for p, product in zip(params, products, strict=True):
            p.grad = p.grad.detach() + 0.01 * product
        super().step()


class Elsewhere(SGD):
    """It trains at one point and means another, as schedule-free does, without the second being a state."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr)
        self.is_training, self.shift = False, 0.05

    @torch.no_grad()
    def _move(self, sign):
        for p in self.param_groups[0]["params"]:
            p.add_(sign * self.shift)

    def train(self):
        if not self.is_training:
            self._move(1)
        self.is_training = True

    def eval(self):
        if self.is_training:
            self._move(-1)
        self.is_training = False

    def step(self, closure=None):
        assert self.is_training, "call train() before step()"
        return super().step(closure)


class Inner:
    def __init__(self):
        self.count = 0


class Keeping(SGD):
    """What it depends on stands everywhere but in its state_dict()."""

    def __init__(self, params, lr=0.1):
        params = list(params)
        super().__init__(params, lr)
        self.rates, self.seen, self.inner = deque(maxlen=3), {3, 1}, Inner()
        self.python, self.numpy = random.Random(0), np.random.default_rng(0)
        self.torch = torch.Generator().manual_seed(0)
        self.base, self.kept = torch.optim.Adam(params, lr=1e-3), params

    @torch.no_grad()
    def step(self, closure=None):
        self.inner.count += 1
        self.rates.append(np.float32(self.numpy.random() + self.python.random() + random.random() + np.random.rand()))  # noqa: NPY002
        self.seen.add(self.inner.count % 7)
        self.param_groups[0]["lr"] = 0.01 * float(sum(self.rates)) / len(self.seen)
        for p in self.kept:
            p.grad += 0.1 * torch.randn(p.shape, generator=self.torch)
        self.base.step()
        return super().step(closure)


class Sharing(SGD):
    """It shares its groups with an optimizer inside, whose state its own state dict holds."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr)
        self.base = torch.optim.Adam(self.param_groups, lr=lr)
        self.param_groups = self.base.param_groups

    def step(self, closure=None):
        group = self.param_groups[0]
        group["k"] = group.get("k", 0) + 1
        group["lr"] = 0.1 / self.base.param_groups[0]["k"]
        self.base.step()

    def state_dict(self):
        return {**super().state_dict(), "base": self.base.state_dict()}

    def load_state_dict(self, state):
        super().load_state_dict({name: state[name] for name in ("state", "param_groups")})
        self.base.load_state_dict(state["base"])
        self.param_groups = self.base.param_groups


class Wrapper:
    """No subclass of torch's, but driven alike."""

    def __init__(self, params, lr=0.1):
        self.base, self.count = torch.optim.SGD(params, lr=lr), 0

    @property
    def param_groups(self):
        return self.base.param_groups

    @property
    def state(self):
        return self.base.state

    def step(self):
        self.count += 1
        self.param_groups[0]["lr"] = 0.1 / self.count
        self.base.step()

    def state_dict(self):
        return self.base.state_dict()

    def load_state_dict(self, state):
        self.base.load_state_dict(state)


def quiet(steps):
    pass


def strategy_of(optimizer, **options):
    return Strategy(optimizer.__name__, factory=optimizer, defaults={"lr": 0.1}, **options)


def run(optimizer, context=None, **options):
    (result,) = Serial(context or task_context()).run([job(strategy_of(optimizer), **options)], quiet)
    return result


def loop_of(step, context, steps):
    """Returns the parameters after so many steps of a loop of one's own on the same minibatches."""
    model = context.fresh_model("default", 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for row in context.batches(1, 0, steps):
        x, y = context.data.train.batch(row)
        step(model, optimizer, lambda m=model, x=x, y=y: nn.functional.cross_entropy(m(x), y))
    return model


def ascending(model, optimizer, loss):
    optimizer.zero_grad()
    loss().backward()
    moved = [0.05 * p.grad / (1e-12 + p.grad.norm()) for p in model.parameters()]
    with torch.no_grad():
        torch._foreach_add_(list(model.parameters()), moved)
    optimizer.zero_grad()
    loss().backward()
    with torch.no_grad():
        torch._foreach_sub_(list(model.parameters()), moved)
    optimizer.step()


def curved(model, optimizer, loss):
    params = list(model.parameters())
    grads = torch.autograd.grad(loss(), params, create_graph=True)
    products = torch.autograd.grad(grads, params, [p.detach() for p in params])
    for p, grad, product in zip(params, grads, products, strict=True):
        p.grad = grad.detach() + 0.01 * product
    optimizer.step()


@pytest.mark.parametrize(
    ("optimizer", "step", "cost"),
    [(Ascending, ascending, 2), (Twice, ascending, 2), (Curved, curved, 3)],
    ids=["from a gradient", "by a closure", "with a graph"],
)
def test_several_gradients_a_step_are_those_of_a_loop_and_charged(optimizer, step, cost):
    context = task_context()
    expected = loop_of(step, context, 30 // cost)
    result = run(optimizer, context)
    assert result.status == "finished"
    assert result.steps == 30
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(result.snapshot[f"model.{name}"], value, rtol=1e-6, atol=1e-7)


def test_a_closure_that_is_called_where_the_gradient_was_taken_is_not_evaluated_again():
    asking = type("Asking", (SGD,), {"step": lambda self, closure: torch.optim.SGD.step(self, closure)})
    assert run(asking).curve == run(SGD).curve


def test_the_first_order_steps_of_lbfgs_are_charged_one_by_one():
    result = run(torch.optim.LBFGS)
    assert result.status == "finished"
    assert int(result.snapshot["round"]) * int(result.snapshot["cost"]) <= 40
    assert 1 < int(result.snapshot["cost"]) <= 25


@pytest.mark.parametrize("optimizer", [Ascending, Curved, Elsewhere, Keeping, Sharing, Wrapper, torch.optim.LBFGS])
def test_a_trial_of_any_form_goes_on_where_it_was_cut(optimizer):
    context = task_context()
    straight = run(optimizer, context, evaluate_every=10)
    assert straight.status == "finished", straight.reason
    first = run(optimizer, context, stop=10, test=False, evaluate_every=10)
    assert first.status == "finished", first.reason
    rest = {"start": 10, "snapshot": first.snapshot, "first_loss": first.first_loss, "evaluate_every": 10}
    resumed = run(optimizer, task_context(), **rest)
    assert resumed.status == "finished", resumed.reason
    assert resumed.curve.valid_loss == straight.curve.valid_loss[1:]
    assert all(torch.equal(resumed.snapshot[name], value) for name, value in straight.snapshot.items())


def test_statistics_are_those_of_the_point_that_is_judged():
    def normalized():
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))

    context = task_context(small_task(model=normalized))
    plain, moved = run(SGD, context), run(Elsewhere, context)
    model = context.fresh_model("default", 1)
    model.load_state_dict({k.removeprefix("model."): v for k, v in moved.snapshot.items() if k.startswith("model.")})
    with torch.no_grad():
        model.train()
        model[1].momentum = None  # a plain mean
        model[1].reset_running_stats()
        for row in context.batches(1, 0, 5):
            model(context.data.train.batch(row)[0])
    assert moved.test == pytest.approx(context.evaluate(model, context.data.test)[1], abs=0.026)
    assert plain.curve.valid_loss != moved.curve.valid_loss
    trained = moved.snapshot["model.1.running_mean"]
    assert not torch.allclose(trained, model[1].running_mean, atol=1e-3)  # training goes on with its own


def test_a_run_never_passes_its_budget_and_none_is_left_over():
    seen = []

    class Counted(Ascending):
        def step(self, closure=None):
            seen.append(1 if closure is None else 2)
            return super().step(closure)

    result = run(Counted, stop=30)
    assert result.status == "finished"
    assert seen.count(2) == 15
    whole = strategy_of(Counted)
    assert replace(job(whole), total=30).total == 30


def told(params, total_steps, lr=0.1):
    assert total_steps == 30
    return torch.optim.SGD(params, lr=lr)


def test_a_factory_is_told_the_number_of_steps_where_it_asks():
    (result,) = Serial(task_context()).run([job(Strategy("told", factory=told, defaults={"lr": 0.1}))], quiet)
    assert result.curve == run(SGD).curve
