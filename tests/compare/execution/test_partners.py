"""Optimizers of matrices in a comparison: hidden matrices for them, AdamW with a rate of its own for all else."""

import math
from functools import partial

import pytest
import torch
from torch import nn

import thalweg
from tests.compare.small import job, small_task, task_context
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.divided import divide
from thalweg.compare.execution.optimizers import groups_for, make_optimizers, optimizer_for
from thalweg.compare.execution.selection import EngineSelector
from thalweg.compare.execution.serial import Serial
from thalweg.compare.strategy import Strategy
from thalweg.compare.task import materialize
from thalweg.compare.user_errors import TaskError
from thalweg.optim import SOAP, AdamW, Muon, Shampoo, matrix_groups
from thalweg.rules import SCHEDULES

NAMES = ["muon", "torch.optim.Muon"]


def quiet(steps):
    """No progress."""


def deep():
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 3))


class Convolving(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.hidden, self.out = nn.Conv1d(1, 4, 3), nn.Linear(16, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(self.hidden(self.conv(x[:, None]).flatten(1)).relu())


def strange(params, lr):
    """It takes matrices alone, and no groups."""
    assert all(p.dim() == 2 for p in params)
    return torch.optim.SGD(params, lr)


@pytest.mark.parametrize("name", NAMES)
def test_the_partners_rate_is_searched_too_and_can_be_set(name):
    strategy = Strategy.parse(name)
    assert list(strategy.space) == ["lr", "adamw_lr"]
    assert strategy.default_configuration()["adamw_lr"] == 1e-3
    assert list(strategy.with_settings(adamw_lr=0.01).space) == ["lr"]
    assert strategy.with_space(adamw_lr=(1e-3, 1e-2)).space["adamw_lr"] == (1e-3, 1e-2)
    assert "adamw_lr" not in Strategy.parse("torch.optim.AdamW").space


def test_an_optimizer_that_refuses_vectors_is_one_of_matrices():
    for factory in (torch.optim.Muon, partial(torch.optim.Muon, momentum=0.9)):
        assert Strategy("own", factory=factory).has_partner
    for factory in (torch.optim.SGD, Muon, strange, lambda model, lr: torch.optim.Muon(model.parameters(), lr)):
        assert not Strategy("own", factory=factory).has_partner
    given = Strategy("own", factory=strange, defaults={"lr": 0.1, "adamw_lr": 0.5}, space={"lr": (0.01, 1.0)})
    assert (list(given.space), given.defaults["adamw_lr"]) == (["lr"], 0.5)
    assert given.has_partner


def test_a_function_of_the_users_is_not_called_before_it_trains():
    def never(params, lr):
        raise AssertionError("called")

    assert not Strategy("never", factory=never).has_partner
    assert Strategy("never", factory=never, defaults={"lr": 1.0, "adamw_lr": 0.1}).has_partner


def test_a_function_that_refuses_vectors_is_given_matrices_and_the_engine_says_so():
    context, strategy = task_context(small_task(model=deep)), Strategy("strange", factory=strange)
    selector = EngineSelector(context, "auto", None, [(40, 8), (8, 64)])
    assert (
        "accepts only matrices, so AdamW with its default settings"
        in selector.choose([strategy], job(strategy))[0].reason
    )
    made = make_optimizers(strategy, context.model, {"lr": 0.1}, "all", roles=lambda: context.roles)
    assert [len(o.param_groups[0]["params"]) for o in made] == [2, 4]


@pytest.mark.parametrize("name", [*NAMES, strange])
def test_hidden_matrices_go_to_it_and_all_else_to_adamw_at_its_own_rate(name):
    space = {"lr": (0.01, 1.0), "adamw_lr": (1e-3, 0.1)}
    strategy = Strategy("strange", factory=name, space=space) if callable(name) else Strategy.parse(name)
    context = task_context(small_task(model=Convolving))
    hyper = {**strategy.default_configuration(), "lr": 0.02, "adamw_lr": 0.005}
    model = context.model
    optimizers = make_optimizers(strategy, model, hyper, "all", roles=lambda: context.roles)
    rates = {id(p): group["lr"] for o in optimizers for group in o.param_groups for p in group["params"]}
    found = {name for name, p in model.named_parameters() if rates[id(p)] == 0.02}
    assert found == ({"conv.weight", "hidden.weight"} if name == "muon" else {"hidden.weight"})
    assert sorted(rates) == sorted(id(p) for p in model.parameters())
    result = Serial(context).run([job(strategy, 0.02)], quiet)[0]
    assert result.curve.valid_loss[-1] < result.first_loss
    assert math.isfinite(result.curve.valid_metric[-1])


@pytest.mark.parametrize(
    ("name", "make"), [("muon", Muon), ("soap", partial(SOAP, adamw_lr=1e-3)), ("shampoo", Shampoo)]
)
@pytest.mark.parametrize("decay", ["all", "weights"])
def test_serial_is_the_loop_of_the_authors(name, make, decay):
    """The flat kernel equals groups by roles in a plain loop, both of whose rates follow the schedule."""
    task = small_task(torch.float64, lambda: deep().double(), groups={"2": {"lr_scale": 0.5, "weight_decay": 0.3}})
    context = TaskContext(task, materialize(task), torch.device("cpu"), decay)
    found = Serial(context).run([job(f"{name}@cosine", 0.02, seed=5)], quiet)[0]
    model = context.fresh_model("default", 5)
    optimizer = make(matrix_groups(model, context.data.train.input[:2]), lr=0.02, decay=decay)
    divide(Strategy.parse(name), optimizer, task.grouping.settings(model))
    rates = [group["lr"] for group in optimizer.param_groups]
    for t, rows in enumerate(context.batches(5, 0, 30)):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * SCHEDULES["cosine"](t, 30)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(context.data.train.input[rows]), context.data.train.target[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(context.data.valid.input), context.data.valid.target).item()
    assert found.curve.valid_loss[-1] == pytest.approx(loss, rel=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_groups_of_the_users_say_who_steps_them(name):
    model, strategy = deep(), Strategy.parse(name)
    hyper = {**strategy.default_configuration(), "adamw_lr": 0.005}
    made = groups_for(strategy, matrix_groups(model, torch.ones(1, 6)), hyper)
    rates = [(group["lr"], group["param_names"][0]) for o in made for group in o.param_groups]
    assert rates == [(strategy.defaults["lr"], "0.weight"), (0.005, "0.bias")]
    listed = optimizer_for(strategy, [{"params": list(model.parameters())}], hyper)
    assert [len(group["params"]) for group in listed.param_groups] == [3, 3]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("engine", ["serial", "lanes"])
def test_without_hidden_matrices_it_is_said_that_it_could_not_run(name, engine, tmp_path):
    task = small_task(model=lambda: nn.Linear(6, 3))
    why = "steps hidden matrices, and this model has none: name some by"
    options = {"trials": 2, "steps": 4, "seeds": 2, "engine": engine}
    results = thalweg.compare(task, [name, "adam"], out=tmp_path / "s", **options).results
    failed = {s["name"]: s["could_not_run"] for s in results["strategies"] if s.get("could_not_run")}
    assert [*failed] == [name]
    assert failed[name].startswith(why)
    assert [s["name"] for s in results["strategies"]] == ["adam", name]
    assert not any("hidden matri" in note for note in results["notes"] if why not in note)
    assert not any("steps nothing" in note for note in results["notes"])
    with pytest.raises(ValueError, match=f"strategy '{name}' {why}") as caught:
        thalweg.compare(task, [name], out=tmp_path / "t", **options)
    assert "\n" not in str(caught.value)


def test_a_task_names_roles_and_the_report_shows_them(tmp_path):
    task = small_task(model=deep, roles={"4.weight": "hidden", "2.*": "vector"})
    results = thalweg.compare(task, ["muon", "torch.optim.Muon"], trials=2, steps=4, seeds=2, out=tmp_path / "s")
    line = (
        "muon, torch.optim.Muon step 2 hidden matrices (0.weight, 4.weight); AdamW, with an adamw_lr that is tuned "
        "too, 4 vectors"
    )
    assert line in results.results["notes"]


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        ({"4.weight": "matrix"}, "the role of '4.weight' is 'matrix'"),
        ({"5.*": "hidden"}, "roles names '5.*', which matches no parameter"),
    ],
)
def test_roles_that_cannot_be_are_refused(roles, words, tmp_path):
    with pytest.raises((TaskError, ValueError), match=words):
        thalweg.compare(small_task(model=deep, roles=roles), ["muon"], trials=2, steps=4, seeds=2, out=tmp_path / "s")


def test_partners_of_two_optimizers_are_adamw():
    strategy = Strategy.parse("torch.optim.Muon")
    made = make_optimizers(strategy, deep(), strategy.default_configuration())
    assert [type(optimizer) for optimizer in made] == [torch.optim.Muon, AdamW]
