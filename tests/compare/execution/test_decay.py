"""What weight decay is applied to is one setting of a study, which all strategies share."""

import json

import pytest
import torch
from torch import nn

import thalweg
from tests.compare.small import job, small_task
from thalweg import optim
from thalweg.compare.comparison import Comparison
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.guidance.staging import stage_of
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.optimizers import make_optimizers
from thalweg.compare.execution.serial import Serial
from thalweg.compare.storage.old_designs import MIXED
from thalweg.compare.storage.rows import sealed
from thalweg.compare.storage.store import Store, StudyError
from thalweg.compare.strategy import Strategy
from thalweg.compare.task import materialize
from thalweg.training import train

DECAYS = ("all", "weights")


def ours(params, lr):
    return optim.AdamW(params, lr=lr, weight_decay=2.0)


def torchs(params, lr):
    return torch.optim.AdamW(params, lr=lr, weight_decay=2.0)


def by_hand(decay):
    """Returns the parameters after thirty steps of torch's AdamW on the job's own batches."""
    context = context_of(decay)
    model = context.fresh_model("default", 1)
    groups = optim.no_decay_groups(model.parameters()) if decay == "weights" else model.parameters()
    optimizer = torch.optim.AdamW(groups, lr=0.01, weight_decay=2.0)
    for rows in context.batches(1, 0, 30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(context.data.train.input[rows]), context.data.train.target[rows]).backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def context_of(decay):
    task = small_task(torch.float64)
    return TaskContext(task, materialize(task), torch.device("cpu"), decay)


@pytest.mark.parametrize("decay", DECAYS)
def test_every_engine_applies_it_as_torch_does(decay):
    expected, context = by_hand(decay), context_of(decay)
    rule = job("adamw", 0.01)
    object.__setattr__(rule, "hyper", {**rule.hyper, "weight_decay": 2.0})
    found = [
        engine.run([rule], lambda n: None)[0].snapshot["params"]
        for engine in (Serial(context), Lanes(context, 2, compile_=False))
    ]
    found = [list(context.layout.unflatten(params).values()) for params in found]
    for factory in (ours, torchs):
        snapshot = Serial(context).run([job(Strategy("own", factory=factory), 0.01)], lambda n: None)[0].snapshot
        found.append([value for name, value in snapshot.items() if name.startswith("model.")])
    for params in found:
        torch.testing.assert_close(params, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("decay", DECAYS)
def test_a_stage_of_the_training_loop_applies_it_too(decay):
    context = context_of(decay)

    def ends(strategy, hyper):
        model = context.fresh_model("default", 1)
        train(model, [stage_of(context, strategy, hyper, 20, 1)], seed=1)
        return [p.detach() for p in model.parameters()]

    rule = ends(Strategy.parse("adamw"), {"lr": 0.01, "weight_decay": 2.0})
    torch.testing.assert_close(rule, ends(Strategy("own", factory=torchs), {"lr": 0.01}), rtol=1e-6, atol=1e-9)


def test_groups_of_the_users_own_are_divided_and_what_has_no_decay_is_left():
    model = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 3))

    def layered(params, lr):
        params = list(params)
        return torch.optim.SGD([{"params": params[:2]}, {"params": params[2:], "lr": 2 * lr}], lr, weight_decay=0.1)

    def shown(factory, decay):
        (optimizer,) = make_optimizers(Strategy("s", factory=factory), model, {"lr": 0.1}, decay)
        return [(len(g["params"]), g["lr"], g.get("weight_decay")) for g in optimizer.param_groups]

    assert shown(layered, "all") == [(2, 0.1, 0.1), (4, 0.2, 0.1)]
    assert shown(layered, "weights") == [(1, 0.1, 0.1), (1, 0.2, 0.1), (1, 0.1, 0.0), (3, 0.2, 0.0)]
    assert shown(torch.optim.SGD, "weights") == [(6, 0.1, 0)]
    assert shown(torch.optim.Rprop, "weights") == [(6, 0.1, None)]


def named(name, out, decay, strategies=("adamw",)):
    small = {"trials": 1, "steps": 12, "seeds": 1, "engine": "serial"}
    return thalweg.compare(small_task(name=name), strategies, out=out, decay=decay, **small)


def test_the_report_the_results_and_the_study_itself_say_it(tmp_path):
    results = {decay: named(decay, tmp_path / decay, decay) for decay in DECAYS}
    for decay, words in (("all", "on all parameters"), ("weights", "on parameters of two dimensions or more")):
        folder = tmp_path / decay
        assert results[decay].results["decay"] == decay
        assert json.loads((folder / "results.json").read_text())["decay"] == decay
        assert words in (folder / "report.html").read_text()
    a, b = (results[decay].results["strategies"][0]["curves"] for decay in DECAYS)
    assert a != b
    with pytest.raises(StudyError, match="different study: decay is all there and weights here: choose another --out"):
        named("all", tmp_path / "all", "weights")
    with pytest.raises(ValueError, match="Invalid decay: 'biases': choose all or weights"):
        named("no", tmp_path / "no", "biases")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("strategies", "meant", "goes_on"),
    [
        (("sgd", "adam"), "all", "all"),
        (("adamw", "sgd"), "weights", "weights"),
        (("adamw", "torch.optim.SGD"), MIXED, None),
    ],
)
def test_a_study_from_before_the_setting_means_what_it_meant(tmp_path, strategies, meant, goes_on):
    folder = tmp_path / "old"
    named("old", folder, goes_on or "all", strategies)
    store = Store.open(folder, write=True)
    design = store.fact("design")
    del design["decay"]
    store._db.execute("UPDATE facts SET value = ?, digest = ? WHERE name = ?", _as_fact(design))
    store.close()
    assert Comparison.open(folder).results["decay"] == meant
    Comparison.open(folder, write=True)
    for decay in DECAYS:
        if decay == goes_on:
            assert named("old", folder, decay, strategies).results["decay"] == meant
        else:
            with pytest.raises(StudyError, match="contains a different study: decay is .* there and"):
                named("old", folder, decay, strategies)


def test_an_initialization_of_before_is_not_gone_on_with_under_the_name_that_means_another_now(tmp_path):
    folder = tmp_path / "old"
    named("old", folder, "all", ("sgd+he", "sgd"))
    store = Store.open(folder, write=True)
    design = store.fact("design")
    del design["decay"]
    store._db.execute("UPDATE facts SET value = ?, digest = ? WHERE name = ?", _as_fact(design))
    store.close()
    assert {s["name"] for s in Comparison.open(folder).results["strategies"]} == {"sgd+he", "sgd"}
    with pytest.raises(StudyError, match="different study: initialization of sgd.he is he-gain there and he here"):
        named("old", folder, "all", ("sgd+he", "sgd"))


def _as_fact(design):
    name, value, digest = sealed("design", json.dumps(design))
    return value, digest, name
