"""Weight decay and learning rates of named parameters are a task's, and the same for every strategy and engine."""

import json

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import thalweg
from tests.command import command
from tests.compare.small import job, parts, small_task
from thalweg.compare.execution.closure_run import ClosureRun
from thalweg.compare.execution.coefficients import coefficient_names, coefficient_table
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.kernels import update_kernel
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.optimizers import make_optimizers
from thalweg.compare.execution.serial import Serial
from thalweg.compare.strategy import Strategy
from thalweg.compare.study.reporter import Reporter
from thalweg.compare.task import build_model, materialize
from thalweg.compare.task.grouping import Grouping
from thalweg.compare.task.loop import TrainingLoop
from thalweg.compare.user_errors import StudyError, TaskError
from thalweg.rules import RULES, Partnered

OWN = {
    "no_decay": True,
    "groups": {"0": {"lr_scale": 0.1}, "2.*": {"weight_decay": 0.5, "lr_scale": 3.0}, "4.bias": {"frozen": True}},
}
BY_NAME = {
    "0.weight": {"lr": 0.1, "weight_decay": 2.0},
    "0.bias": {"lr": 0.1, "weight_decay": 0.0},
    "2.weight": {"lr": 3.0, "weight_decay": 0.5},
    "2.bias": {"lr": 3.0, "weight_decay": 0.0},
    "4.weight": {"lr": 1.0, "weight_decay": 2.0},
}


def deep():
    return nn.Sequential(
        nn.Linear(6, 8, dtype=torch.float64),
        nn.Tanh(),
        nn.Linear(8, 8, dtype=torch.float64),
        nn.LayerNorm(8, dtype=torch.float64),
        nn.Linear(8, 3, dtype=torch.float64),
    )


def context_of(**options):
    torch.manual_seed(0)
    task = small_task(torch.float64, model=deep(), **{**OWN, **options})  # whose frozen part is the same for all seeds
    return TaskContext(task, materialize(task), torch.device("cpu"))


def by_hand(make):
    """Returns what a torch optimizer with groups written out makes of the job's own batches."""
    context = context_of()
    model = context.fresh_model("default", 1)
    groups = []
    for name, p in model.named_parameters():
        own = BY_NAME.get(name, {"lr": 1.0, "weight_decay": 0.0})  # the normalization's
        if p.requires_grad:
            groups.append({"params": [p], "lr": 0.01 * own["lr"], "weight_decay": own["weight_decay"]})
    optimizer = make(groups)
    for rows in context.batches(1, 0, 30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(context.data.train.input[rows]), context.data.train.target[rows]).backward()
        optimizer.step()
    return {name: p.detach() for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", ["adamw", "momentum"])  # decoupled weight decay, and one that is added to the gradient
def test_every_engine_steps_groups_as_torch_does(name):
    made = {
        "adamw": torch.optim.AdamW,
        "momentum": lambda groups, **hyper: torch.optim.SGD(groups, momentum=0.9, **hyper),
    }
    expected, context, found = by_hand(made[name]), context_of(), []
    rule = job(name, 0.01)
    object.__setattr__(rule, "hyper", {**rule.hyper, "weight_decay": 2.0})
    for engine in (Serial(context), Lanes(context, 2, compile_=False)):
        found.append(context.layout.unflatten(engine.run([rule], lambda n: None)[0].snapshot["params"]))
    own = Strategy("own", factory=lambda params, lr: made[name](params, lr=lr, weight_decay=2.0))
    named = Strategy(
        "named", factory=lambda named_parameters, lr: made[name](named_parameters, lr=lr, weight_decay=2.0)
    )
    for strategy in (own, named):
        snapshot = Serial(context).run([job(strategy, 0.01)], lambda n: None)[0].snapshot
        found.append({key.removeprefix("model."): value for key, value in snapshot.items()})
    start = dict(context.fresh_model("default", 1).named_parameters())
    assert torch.equal(expected["4.bias"], start["4.bias"])
    for params in found:
        for key in context.layout.names:
            torch.testing.assert_close(params[key], expected[key], rtol=1e-7, atol=1e-10)
    assert torch.equal(found[-1]["4.bias"], start["4.bias"])


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_lanes_with_groups_as_alone(name):
    context = context_of()
    one = job(name, 0.01)
    object.__setattr__(one, "hyper", {**one.hyper, "weight_decay": 0.1})
    other = job(name, 0.003, seed=2)
    alone = Serial(context).run([one], lambda n: None)[0].snapshot["params"]
    together = Lanes(context, 2, compile_=False).run([one, other], lambda n: None)[0].snapshot["params"]
    bound = 1e-6 if isinstance(RULES[name], Partnered) else 1e-9  # eigenvectors follow the rounding more closely
    torch.testing.assert_close(together, alone, rtol=bound, atol=bound / 1000)
    plain = Serial(context_of(no_decay=False, groups={"4.bias": {"frozen": True}}))
    assert not torch.allclose(plain.run([one], lambda n: None)[0].snapshot["params"], alone)


def test_the_step_that_is_compiled_is_the_eager_one():
    context, one = context_of(), job("adamw", 0.01)
    names, table = (f(one, *at, context.settings) for f, at in ((coefficient_names, ()), (coefficient_table, (0, 2))))
    found = []
    with torch.compiler.set_stance("force_eager"):  # it has a text of its own
        for compiled in (True, False):
            state = [torch.full((2, context.layout.size), value, dtype=torch.float64) for value in (1.0, 2.0, 0.1, 0.2)]
            kernel = update_kernel(
                one.strategy.rule, names, context.decayed, context.layout, compiled, context.setting_of
            )
            kernel(state[0], state[1], state[2:], table)
            found.append(state)
    assert all(map(torch.equal, *found))


def test_the_rest_of_a_run_is_the_same_where_it_is_cut():
    context = context_of()
    for strategy in ("adamw", Strategy("own", factory=lambda params, lr: torch.optim.AdamW(params, lr=lr))):
        whole = Serial(context).run([job(strategy, 0.01)], lambda n: None)[0].snapshot
        first = Serial(context).run([job(strategy, 0.01, stop=14, test=False)], lambda n: None)[0]
        rest = job(strategy, 0.01, start=14, snapshot=first.snapshot, first_loss=first.first_loss)
        again = Serial(context).run([rest], lambda n: None)[0].snapshot
        assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_methods_that_step_all_together_leave_out_weight_decay_and_refuse_a_rate():
    free = {"groups": {"0": {"weight_decay": 0.5}}}
    context = context_of(**free)
    run = ClosureRun(context, job(Strategy.parse("lbfgs"), stop=400, total=400))
    assert sorted({group["weight_decay"] for group in run.optimizer.param_groups}) == [0.0, 0.5]
    for name in ("lbfgs", "torch.optim.LBFGS"):
        strategy = Strategy.parse(name)
        with pytest.raises(ValueError, match=f"{name}' steps all parameters together.*omit lr_scale"):
            make_optimizers(strategy, context.model, strategy.defaults, "all", Grouping(True, OWN["groups"]))
    with pytest.raises(ValueError, match="'torch.optim.Rprop' has no weight_decay for groups"):
        make_optimizers(
            Strategy.parse("torch.optim.Rprop"), context.model, {"lr": 1.0}, "all", Grouping(False, free["groups"])
        )


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.lm_head = nn.Embedding(6, 3), nn.Linear(3, 6, bias=False)
        self.lm_head.weight = self.wte.weight
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList([nn.Linear(3, 3) for _ in range(2)])})
        self.encoder["LayerNorm"] = nn.LayerNorm(3)


def settings(no_decay, groups):
    model = Tied()
    own = Grouping(no_decay, groups).settings(model)
    return {name: tuple(own[id(p)]) for name, p in model.named_parameters() if own[id(p)] != (1.0, None)}


def test_names_are_of_parameters_or_modules_or_the_end_of_them():
    decays = settings(["bias", "LayerNorm.weight", "lm_head"], {})
    biases = [f"encoder.layer.{i}.bias" for i in range(2)] + ["encoder.LayerNorm.bias"]
    assert decays == dict.fromkeys(["wte.weight", *biases, "encoder.LayerNorm.weight"], (1.0, 0.0))
    rates = settings(False, {"encoder": {"lr_scale": 0.5, "weight_decay": 0.1}, "encoder.layer.?": {"lr_scale": 0.25}})
    assert rates["encoder.LayerNorm.bias"] == (0.5, 0.1)
    assert rates["encoder.layer.1.weight"] == (0.25, 0.1)
    assert "wte.weight" not in rates
    task = small_task(model=deep, groups={"*": {"frozen": True}, "4": {"frozen": False}})
    assert [name for name, p in build_model(task).named_parameters() if p.requires_grad] == ["4.weight", "4.bias"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"no_decay": "bias"}, "no_decay is 'bias': give True, or a list"),
        ({"groups": ["0"]}, "groups is .* give {name of parameters"),
        ({"groups": {"0": {}}}, "groups\\['0'\\] is {}: give settings by name"),
        ({"groups": {"0": {"lr": 0.1}}}, "has no setting 'lr': use lr_scale, weight_decay, frozen"),
        ({"groups": {"0": {"lr_scale": 0}}}, "lr_scale=0: write frozen=True"),
        ({"groups": {"0": {"lr_scale": float("nan")}}}, "lr_scale=nan: give a finite number"),
        ({"groups": {"0": {"frozen": "yes"}}}, "frozen='yes': use True or False"),
        (
            {"groups": {"2.wieght": {"lr_scale": 2}}},
            "'2.wieght', which matches no parameter.*nearest names are 2.weight",
        ),
        ({"no_decay": ["norm"]}, "no_decay names 'norm', which matches no parameter"),
        ({"groups": {"0.bias": {"lr_scale": 2}, "0": {"lr_scale": 3}}}, "'0.bias'\\] changes nothing, since later"),
        ({"groups": {"*": {"frozen": True}}}, "no trainable parameter"),
    ],
)
def test_bad_groups(options, match, tmp_path):
    with pytest.raises(TaskError, match=match):
        thalweg.compare(small_task(**options), ["sgd"], trials=1, steps=10, seeds=1, out=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def loop(run):
    model = deep()
    optimizer = run.optimizer(model)
    train, valid, test = parts(torch.float64)
    for x, y in run.batches(DataLoader(train, batch_size=20, shuffle=True)):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.loss(loss)
        if run.due:
            run.report(valid={"loss": nn.functional.cross_entropy(model(valid.tensors[0]), valid.tensors[1])})
    run.report(test={"loss": nn.functional.cross_entropy(model(test.tensors[0]), test.tensors[1])})
    seen.append({name: p.detach().clone() for name, p in model.named_parameters()})
    rates.append([(group["lr"], group["weight_decay"]) for group in optimizer.param_groups])


def by_groups(run):
    run.optimizer([{"params": deep().parameters()}])


seen, rates = [], []


def test_a_loop_gets_an_optimizer_with_the_groups(tmp_path):
    small = {"trials": 1, "steps": 8, "seeds": 1}
    said = []

    class Said(Reporter):
        def say(self, line):
            said.append(line)

    done = thalweg.compare(
        TrainingLoop(loop, groups=OWN["groups"]), ["adamw"], no_decay=True, out=tmp_path / "a", reporter=Said(), **small
    )
    lr = 0.001
    assert {(round(a / lr, 6), b) for a, b in rates[0]} == {(0.1, 0.01), (0.1, 0), (3, 0.5), (3, 0), (1, 0.01), (1, 0)}
    assert torch.equal(seen[0]["4.bias"], seen[1]["4.bias"])
    assert "0: 2 parameter tensors, learning rate times 0.1" in said
    assert done.results["task"]["groups"][0] == ["0", {"lr_scale": 0.1}]
    assert done.results["task"]["no_decay"] is True
    with pytest.raises(StudyError, match="no-decay is on there and not given here"):
        thalweg.compare(TrainingLoop(loop), ["adamw"], out=tmp_path / "a", **small)
    with pytest.raises(TaskError, match="groups name parameters of a model: call run.optimizer.model."):
        thalweg.compare(
            TrainingLoop(by_groups, metric="loss", groups=OWN["groups"]), ["sgd"], out=tmp_path / "b", **small
        )


MINE = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
import thalweg

def task():
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(x, x[:, :1])
    model = lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    groups = {"0.weight": {"frozen": True}, "2": {"weight_decay": 100.0}}
    return thalweg.Task(model, data, data, data, nn.functional.mse_loss, steps=40, batch_size=20, groups=groups)
"""


def test_the_commands_take_them(tmp_path):
    from safetensors.torch import load_file

    (tmp_path / "mine.py").write_text(MINE)
    words = ["train", "mine.py:task", "--strategy", "adamw", "--no-decay", "--out", "out", "--device", "cpu"]
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "history.json").read_text())
    assert record["no_decay"] is True
    assert record["groups"][1] == ["2", {"weight_decay": 100.0}]
    held = load_file(tmp_path / "out" / "model.safetensors")
    assert held["2.weight"].abs().max() < 0.1 < held["2.bias"].abs().max() + 0.2
