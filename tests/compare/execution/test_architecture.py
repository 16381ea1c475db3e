"""Auxiliary heads train with the model in every engine, and only the model's own output is judged."""

import pytest
import torch
from torch import nn

from tests.compare.small import job, small_task, task_context
from tests.conformance.test_engines import TOLERANCE, quiet, same
from thalweg import Strategy
from thalweg.architecture import AuxiliaryHeads
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.serial import Serial
from thalweg.compare.task import build_model, materialize
from thalweg.compare.task.builtin import TASKS


def deep():
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 3)).double()


def with_heads():
    return AuxiliaryHeads(deep(), {"1": nn.Linear(12, 3).double()}, weight=0.5)


@pytest.fixture(scope="module")
def context():
    return task_context(small_task(torch.float64, with_heads))


def test_lanes_train_heads_as_serial_does(context):
    jobs = [job("momentum", lr, seed) for lr in (0.03, 0.3) for seed in (1, 2)] + [job("momentum+he", 0.1)]
    for one, two in zip(
        Serial(context).run(jobs, quiet), Lanes(context, 5, compile_=False).run(jobs, quiet), strict=True
    ):
        same(one, two, **TOLERANCE)


def test_serial_training_is_the_plain_loop(context):
    specimen = job("sgd", 0.1, stop=7)
    (result,) = Serial(context).run([specimen], quiet)
    heads, data = context.fresh_model("default", 1), context.data
    optimizer = torch.optim.SGD(heads.parameters(), lr=0.1)
    for rows in context.batches(1, 0, 7):
        optimizer.zero_grad()
        loss = heads.loss(heads(data.train.input[rows]), data.train.target[rows], nn.functional.cross_entropy)
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(
        context.layout.flatten(dict(heads.named_parameters())).detach(), result.snapshot["params"]
    )
    bare = heads.strip()
    assert result.curve.valid_loss[-1] == pytest.approx(
        nn.functional.cross_entropy(bare(data.valid.input), data.valid.target).item()
    )
    assert result.test == (bare(data.test.input).argmax(1) == data.test.target).float().mean().item()


@pytest.mark.parametrize(
    "strategy", [Strategy("torch-adam", factory=torch.optim.Adam, defaults={"lr": 0.03}), Strategy.parse("lbfgs")]
)
def test_optimizers_made_by_a_factory_train_heads_and_resume(context, strategy):
    whole, first = Serial(context).run([job(strategy, stop=n, total=120) for n in (120, 63)], quiet)
    rest = job(strategy, start=63, stop=120, total=120, snapshot=first.snapshot, first_loss=first.first_loss)
    (resumed,) = Serial(context).run([rest], quiet)
    assert whole.curve.train_loss[-1] < 0.5 * whole.curve.train_loss[0]
    assert not torch.equal(whole.snapshot["model.heads.0.weight"], context.fresh_model("default", 1).heads[0].weight)
    if not strategy.closure:
        assert resumed.curve.valid_loss[-1] == whole.curve.valid_loss[-1]


def test_shortcuts_alone_let_the_deep_network_train():
    results = {}
    for name in ("digits-deep", "digits-deep-residual", "digits-deep-heads"):
        task = TASKS[name]()
        context = task_context(task)
        one = job("adam", 0.01, stop=150, total=150, evaluate_every=150)
        results[name] = Serial(context).run([one], quiet)[0].curve.valid_metric[-1]
    assert results["digits-deep"] < 0.2
    assert results["digits-deep-residual"] > 0.8


def test_variants_have_the_deep_network_s_parameters():
    def sizes(model):
        return [tuple(p.shape) for p in model.parameters()]

    plain, residual, heads = (
        build_model(TASKS[name]()) for name in ("digits-deep", "digits-deep-residual", "digits-deep-heads")
    )
    assert sizes(residual) == sizes(plain) == sizes(heads.strip())


def test_a_head_on_a_layer_that_does_not_run_is_refused_before_training():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x):
            return self.used(x)

    task = small_task(model=lambda: AuxiliaryHeads(Idle(), {"idle": nn.Identity()}))
    with pytest.raises(ValueError, match="layer 'idle' did not run in the last forward"):
        materialize(task)
