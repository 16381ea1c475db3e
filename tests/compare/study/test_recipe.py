"""The lines to paste make the optimizer that was compared: executed, they train a model to the same parameters."""

import shlex

import pytest
import torch
from torch import nn

from thalweg.cli.main import app
from thalweg.compare.execution.optimizers import make_optimizers, members
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.second_order import SECOND_ORDER
from thalweg.compare.study.recipe import FACES, recipe
from thalweg.rules import RULES

STEPS = 7
SET = {
    "adam@cosine": {"lr": 0.0123, "beta2": 0.97},
    "adamw": {"lr": 0.02, "weight_decay": 0.1, "betas.1": 0.98},
    "momentum@warmup-linear": {"lr": 0.1, "momentum": 0.7, "schedule.warmup": 0.4},
    "adamw+cautious+lookahead": {"lr": 0.02},
    "adamw+mars": {"lr": 0.02, "mars_gamma": 0.03},
    "muon@cosine": {"lr": 0.03, "adamw_lr": 0.004},
    "torch.optim.RAdam@step": {"lr": 0.01, "betas.0": 0.8},
    "torch.optim.Muon@cosine": {"lr": 0.01, "adamw_lr": 0.004},
    "soap": {"lr": 0.03, "precondition_frequency": 2},
}
CASES = {**{name: {} for name in FACES}, **SET}


def facts(decay="all", **task):
    return {"task": {"batch_size": 50, **task}, "decay": decay, "run": {"task": "digits"}}


def made(name, settings, decay="all"):
    strategy = Strategy.parse(name)
    hyper = strategy.with_settings(settings).default_configuration()
    return strategy, hyper, recipe(strategy.describe(), hyper, STEPS, facts(decay))


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def trained(net, optimizers, factor):
    """Returns the parameters after the steps; ``factor`` is called after each of them."""
    x = torch.linspace(-1, 1, 50, dtype=torch.float64).view(10, 5)

    def closure():
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = (net(x) - x[:, :3].sin()).square().mean()
        if not isinstance(optimizers[0], tuple(CLOSURES)):
            loss.backward()
        return loss

    for step in range(STEPS):
        if isinstance(optimizers[0], tuple(CLOSURES)):
            optimizers[0].step(closure)
        else:
            closure()
            for optimizer in optimizers:
                optimizer.step()
        factor(step)
    return torch.cat([p.detach().flatten() for p in net.parameters()])


CLOSURES = [
    type(method.make([nn.Parameter(torch.zeros(2))], **{k: v for k, v in method.defaults.items() if k != "batches"}))
    for method in SECOND_ORDER.values()
]


@pytest.mark.parametrize("decay", ["all", "weights"])
@pytest.mark.parametrize(("name", "settings"), CASES.items(), ids=CASES)
def test_the_lines_in_pytorch_step_as_what_was_compared(name, settings, decay):
    if decay == "weights" and name not in ("adamw", "muon", "lion"):
        pytest.skip("other strategies decay nothing by default")
    strategy, hyper, found = made(name, settings, decay)
    ours, theirs = model(), model()
    optimizers = [own for made in make_optimizers(strategy, ours, hyper, decay) for own in members(made)]
    rates = [[group["lr"] for group in own.param_groups] for own in optimizers]
    schedule = strategy.schedule_with(hyper)

    def rescale(step):
        for own, first in zip(optimizers, rates, strict=True):
            for group, lr in zip(own.param_groups, first, strict=True):
                group["lr"] = lr * schedule(step, STEPS)

    if strategy.schedule_name != "constant":
        rescale(0)
    expected = trained(ours, optimizers, lambda t: rescale(t + 1) if strategy.schedule_name != "constant" else None)
    names = {"model": theirs}
    exec("\n".join(found["pytorch"]), names)
    pasted = [names[key] for key in ("optimizer", "adamw") if key in names]
    schedulers = [names[key] for key in ("scheduler", "adamw_scheduler") if key in names]
    assert bool(schedulers) == (strategy.schedule_name != "constant")
    result = trained(theirs, pasted, lambda t: [own.step() for own in schedulers])
    torch.testing.assert_close(result, expected, rtol=1e-7, atol=1e-9)


def test_every_built_in_optimizer_has_lines():
    assert FACES.keys() == {**RULES, **SECOND_ORDER}.keys()


@pytest.mark.parametrize("name", ["momentum@warmup-linear", "adamw", "torch.optim.RAdam@step"])
def test_the_command_trains_with_the_configuration(name, tmp_path, monkeypatch):
    import json

    monkeypatch.chdir(tmp_path)
    _, hyper, found = made(name, SET[name], "weights")
    words = shlex.split(found["command"])
    assert words[:2] == ["thalweg", "train"]
    app([*words[1:], "--out", "o", "--device", "cpu"], standalone_mode=False)
    record = json.loads((tmp_path / "o" / "history.json").read_text())
    assert {key: record["hyperparameters"][key] for key in hyper} == pytest.approx(hyper)
    assert (record["decay"], record["strategy"], record["rows"][-1]["step"]) == ("weights", name, STEPS)


def test_what_only_the_users_code_makes_has_no_lines_but_says_so():
    own = Strategy("adam", None, lambda params, lr: torch.optim.Adam(params, lr=lr))
    found = recipe(own.describe(), {"lr": 0.1}, STEPS, facts())
    assert (found["pytorch"], found["command"]) == (None, None)
    assert "your own code" in found["notes"][0]


def test_what_the_lines_leave_out_is_said():
    strategy = Strategy.parse("adam+he+ema@cosine")
    found = recipe(strategy.describe(), {"lr": 0.1}, STEPS, facts(precision="bf16", clip_norm=1.0, accumulate=4))
    said = " ".join(found["notes"])
    assert all(word in said for word in ("without he, ema", "norm of 1", "bf16", "4 minibatches"))
    assert "--precision bfloat16" in found["command"]
    assert "--accumulate 4" in found["command"]
