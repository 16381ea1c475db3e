"""A LightningModule as a task: it is measured as its Trainer measures it, and its own optimizer goes its own way."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import thalweg
from tests.adapters.small import Data, Module, context_of, pl, task
from thalweg.adapters import lightning_strategy
from thalweg.compare.execution.job import Job
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.serial import Serial
from thalweg.compare.execution.stackable import Unstackable
from thalweg.compare.execution.trial_state import TrialState
from thalweg.compare.strategy import Strategy

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Lightning's own, on workers and deprecations
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def test_what_is_logged_is_what_the_trainer_logs():
    data, model = Data(), Module()
    context = context_of(task(model, data))
    assert (context.task.metric, context.task.direction) == ("acc", "max")  # as torchmetrics says
    ours = context.task.evaluate(context.fresh_model("default", 0).eval(), context.data.valid.chunks())
    data.setup = lambda stage: None  # the split that the task has
    (theirs,) = pl.Trainer(**QUIET).validate(model, data, verbose=False)
    theirs = {name.removeprefix("val_"): value for name, value in theirs.items() if name != "val_now"}
    assert ours == pytest.approx(theirs, rel=1e-6)
    tested = context.evaluate(context.fresh_model("default", 0), context.data.test)[1]
    assert tested == pytest.approx(pl.Trainer(**QUIET).test(model, data, verbose=False)[0]["test_acc"], rel=1e-6)


def test_a_function_builds_modules_of_which_none_changes_what_another_measures():
    context = context_of(task())
    one, two = context.fresh_model("default", 0), context.fresh_model("default", 1)
    first = context.evaluate(one, context.data.valid)
    context.task.step(one.train(), context.data.train.head(10))
    assert context.evaluate(two, context.data.valid) != first
    assert context.evaluate(one, context.data.valid) == first
    assert not one.training_accuracy.update_called  # an epoch of training would add up


def test_hooks_around_the_transfer_change_batches():
    class Doubled(Module):
        def on_after_batch_transfer(self, batch, number):
            return 2 * batch[0], batch[1]

    class Halved(Data):
        def on_before_batch_transfer(self, batch, number):
            return batch[0] / 2, batch[1]

    plain, both, halved = (context_of(task(*given)) for given in ((Module,), (Doubled, Halved()), (Module, Halved())))
    model = plain.fresh_model("default", 0)
    some = [context.evaluate(context.fresh_model("default", 0), context.data.valid) for context in (plain, both)]
    assert some[0] == some[1]  # the module's hook after the data module's
    assert float(halved.task.step(model, plain.data.train.head(10))) == pytest.approx(
        float(plain.task.step(model, [plain.data.train.head(10)[0] / 2, plain.data.train.head(10)[1]]))
    )


def test_a_module_trains_in_lanes_as_serially_and_serially_where_it_measures_its_training():
    class Plain(Module):
        def training_step(self, batch, batch_idx):
            loss = nn.functional.cross_entropy(self.network(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

    strategy = Strategy.parse("adam")
    some = [Job(str(s), strategy, strategy.default_configuration(), s, 0, 12, 12, 6, test=True) for s in (0, 1)]
    context = context_of(task(Plain))
    lanes, serial = (
        engine.run(some, lambda steps: None) for engine in (Lanes(context, 2, compile_=False), Serial(context))
    )
    for one, two in zip(lanes, serial, strict=True):
        torch.testing.assert_close(one.snapshot["params"], two.snapshot["params"], rtol=1e-4, atol=1e-6)
        assert one.test == two.test
    with pytest.raises(Unstackable, match="training_step updates metrics of torchmetrics, which are of one model"):
        Lanes(context_of(task()), 2, compile_=False).probe()


def scheduled(scheduler, **config):
    class Scheduled(Module):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler(optimizer), **config}}

    return Scheduled


def warm(optimizer):
    return torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, 1.0, 5)


def one_cycle(optimizer):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, [0.1, 0.02], 12)


def halving(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)


@pytest.mark.parametrize(
    ("module", "every"),
    [
        (Module, None),
        (scheduled(warm, interval="step"), 1),
        (scheduled(one_cycle, interval="step"), 1),
        (scheduled(halving, interval="step", frequency=3), 3),
        (scheduled(halving), 8),  # an epoch, of 80 examples in batches of 10
    ],
)
def test_its_own_optimizer_and_scheduler_train_as_by_hand_also_when_cut(module, every):
    context = context_of(task(module))
    strategy = lightning_strategy(context.task)
    hyper = strategy.default_configuration()
    whole = Job("own", strategy, hyper, 1, 0, 12, 12, 6, test=True)
    (straight,) = Serial(context).run([whole], lambda steps: None)

    model = context.fresh_model("default", 1).train()
    made = model.configure_optimizers()
    optimizer = made if every is None else made["optimizer"]
    for t, rows in enumerate(context.batches(1, 0, 12)):
        optimizer.zero_grad()
        context.task.step(model, context.data.train.batch(rows)).backward()
        optimizer.step()
        if every and (t + 1) % every == 0:
            made["lr_scheduler"]["scheduler"].step()
    by_hand = {name: p.detach() for name, p in model.named_parameters()}
    trained = TrialState.decode(straight.snapshot).params
    for name, value in by_hand.items():
        torch.testing.assert_close(trained[name], value, rtol=1e-6, atol=1e-7)

    (first,) = Serial(context).run([replace(whole, stop=6, test=False)], lambda steps: None)
    rest = replace(whole, start=6, snapshot=first.snapshot, first_loss=first.first_loss)
    (cut,) = Serial(context_of(context.task)).run([rest], lambda steps: None)
    assert all(torch.equal(tensor, cut.snapshot[name]) for name, tensor in straight.snapshot.items())


def test_its_learning_rate_is_searched_for_all_groups_by_one_factor():
    strategy = lightning_strategy(task(scheduled(warm, interval="step")), name="mine")
    assert (strategy.name, strategy.default_configuration()) == ("mine", {"lr": 0.1})
    assert strategy.space["lr"] == (pytest.approx(0.001), pytest.approx(10.0))
    optimizer = strategy.factory(Module(), lr=0.2)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.2, 0.04])


def test_a_study_compares_the_modules_optimizer_with_others(tmp_path):
    given = task(clip_norm=1.0)
    found = thalweg.compare(
        given, ["adam", lightning_strategy(given)], trials=1, seeds=2, engine="serial", out=tmp_path / "study"
    )
    assert {s["name"] for s in found.results["strategies"]} == {"adam", "own"}
    assert found.results["task"]["metric"] == "acc"
