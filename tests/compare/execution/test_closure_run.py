"""Second-order strategies in a comparison: each pays for all that it evaluates, and gets what every other gets."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import thalweg
import thalweg.optim
from tests.compare.small import job, small_task, task_context
from thalweg.compare.execution.closure_run import PRODUCT, ClosureRun
from thalweg.compare.execution.serial import Serial
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.second_order import SECOND_ORDER
from thalweg.curvature import Hessian

LONG = {"total": 400, "evaluate_every": 20, "stop": 400}
NAMES = [name for name in SECOND_ORDER if name != "newton"]
each = pytest.mark.parametrize("name", [*NAMES, "torch.optim.LBFGS"])


@pytest.fixture(scope="module")
def context():
    return task_context(small_task(torch.float64))


def run(context, one):
    return Serial(context, 1).run([one], lambda steps: None)[0]


@each
def test_it_trains_and_is_judged_on_the_same_grid_as_every_other(context, name):
    result, adam = run(context, job(name, **LONG)), run(context, job("adam", **LONG))
    assert result.status == "finished"
    assert result.curve.step == adam.curve.step
    assert result.curve.train_loss[-1] < 0.7 * result.first_loss
    assert result.first_loss == pytest.approx(adam.first_loss, rel=0.5)
    assert result.test is not None


@each
@pytest.mark.parametrize("batches", [2, 5, 64])
def test_every_evaluation_and_product_is_paid_for_and_the_budget_never_passed(context, name, batches, monkeypatch):
    seen = {"examples": 0, "products": 0}
    product = Hessian._product

    def counted(self, vector):
        seen["products"] += 1
        return product(self, vector)

    def loss(output, target):
        if torch.is_grad_enabled():
            seen["examples"] += len(target)
        return torch.nn.functional.cross_entropy(output, target)

    monkeypatch.setattr(Hessian, "_product", counted)
    counting = task_context(small_task(torch.float64))
    object.__setattr__(counting.task, "loss", loss)
    one = job(name, **LONG)
    hyper = {**one.hyper, "batches": batches}
    training = ClosureRun(counting, replace(one, hyper=hyper))
    seen["examples"] = 0
    for t in range(0, 400, 20):
        training.advance(t, t + 20)
        assert training.spent <= 400
    size = min(batches, 5) * 20  # the training data are five minibatches
    spent = seen["examples"] / 20 + seen["products"] * PRODUCT * size / 20
    # The last step may turn out to be more than could be paid for, and is then taken back.
    assert training.spent == pytest.approx(min(spent, 400.0))
    assert training.spent > 200


def test_a_point_shows_what_was_paid_for_by_then(context):
    """A step is paid for as a whole: until then the model is the one before."""
    training = ClosureRun(context, job("lbfgs", **LONG))
    start = [p.detach().clone() for p in training.model.parameters()]
    training.advance(0, 5)  # one full-batch evaluation: nothing is learned from a single point
    torch.testing.assert_close(list(training.model.parameters()), start, rtol=0, atol=0)
    training.advance(5, 60)
    assert not torch.equal(next(training.model.parameters()), start[0])


@each
def test_a_run_repeats_itself_and_goes_on_from_its_snapshot(context, name):
    first = run(context, job(name, stop=150, total=400, evaluate_every=20))
    rest = {"start": 150, "stop": 400, "total": 400, "evaluate_every": 20, "first_loss": first.first_loss}
    one, two = (run(context, job(name, snapshot=first.snapshot, **rest)) for _ in range(2))
    assert vars(one.curve) == vars(two.curve)
    assert one.test == two.test
    assert one.curve.train_loss[-1] <= first.curve.train_loss[-1] * 1.01
    again = run(context, job(name, stop=150, total=400, evaluate_every=20))
    for key, value in first.snapshot.items():
        torch.testing.assert_close(again.snapshot[key], value, rtol=0, atol=0, equal_nan=True)


def test_a_large_batch_is_the_next_minibatches_of_the_seed(context):
    one = job("lbfgs", **LONG)
    training = ClosureRun(context, replace(one, hyper={**one.hyper, "batches": 3}))
    rows = context.batches(one.seed, 0, 3).reshape(-1)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(
            training.model(context.data.train.input[rows]), context.data.train.target[rows]
        )
    assert torch.equal(training.advance(0, 0), torch.tensor([loss.item()]))


def test_a_step_that_cannot_be_paid_for_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ValueError, match=r"a step of 'newton' on 123 parameters costs 1,245 gradient evaluations and"):
        thalweg.compare(small_task(), ["newton"], trials=1, seeds=2, out=tmp_path / "study")


def test_newton_trains_where_it_can_be_paid_for(context):
    result = run(context, job("newton", stop=6000, total=6000, evaluate_every=1000))
    assert result.curve.train_loss[-1] < 0.5 * result.first_loss


def test_a_loss_that_is_not_finite_is_a_divergence(context):
    broken = task_context(small_task(torch.float64))
    one = job("lbfgs", **LONG)
    training = ClosureRun(broken, one)
    broken.data.train.input[0] = math.nan
    assert math.isnan(training.advance(0, 100)[0])


def test_a_study_of_both_orders(tmp_path):
    done = thalweg.compare(
        small_task(steps=120), ["momentum", "lbfgs", "truncated-newton"], trials=2, seeds=2, out=tmp_path / "study"
    )
    by_name = {s["name"]: s for s in done.results["strategies"]}
    hyper = by_name["lbfgs"]["hyperparameters"]
    assert hyper["batches"] == round(hyper["batches"]) >= 1
    assert by_name["lbfgs"]["curves"]["step"][-1] == by_name["momentum"]["curves"]["step"][-1] == 120
    assert by_name["truncated-newton"]["seconds_per_step"] > 0
    assert (tmp_path / "study" / "report.html").exists()


def test_a_closure_strategy_of_ones_own(context):
    mine = Strategy(
        "mine",
        factory=torch.optim.LBFGS,
        defaults={"lr": 0.1, "batches": 2.0, "history_size": 7},
        space={"lr": (0.1, 1.0)},
        whole=("batches", "history_size"),
        closure=True,
    )
    assert mine.default_configuration()["history_size"] == 7
    assert run(context, job(mine, **LONG)).status == "finished"
    single = Strategy("single", factory=torch.optim.LBFGS, defaults={"lr": 0.02})
    assert run(context, job(single, **LONG)).status == "finished"  # on a minibatch a step


def test_what_a_method_cannot_step_is_refused_in_a_line_and_no_divergence(tmp_path):
    def attention():
        layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
        return nn.Sequential(nn.Unflatten(1, (1, 6)), layer, nn.Flatten(), nn.Linear(6, 3))

    task = small_task(model=attention, steps=2000)
    with pytest.raises(ValueError, match="'truncated-newton' cannot step this model: .*no second derivative"):
        thalweg.compare(task, ["truncated-newton"], trials=1, seeds=2, out=tmp_path / "study")


def test_gauss_newton_can_take_part(context):
    def made(params, lr):
        return thalweg.optim.TruncatedNewton(params, lr=lr, curvature="gauss_newton")

    mine = Strategy("gn", factory=made, defaults={"lr": 1.0}, closure=True)
    result = run(context, job(mine, **LONG))
    assert (result.status, result.curve.train_loss[-1] < 0.7 * result.first_loss) == ("finished", True)
