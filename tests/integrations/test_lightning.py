"""Inside Lightning: every optimizer goes the way of a loop of one's own; AMP, averages, curricula, checkpoints."""

import pytest
import torch

from tests.integrations import page
from tests.integrations.small import EPOCHS, equal, flat, loader, loss_of, net, own_loop
from tests.optim.test_conventions import OPTIMIZERS
from thalweg import optim
from thalweg.averaging import Average, Polyak

pl = pytest.importorskip("pytorch_lightning", reason="pytorch_lightning is not installed")
CLOSURES = {name: getattr(optim, name) for name in ("LBFGS", "BFGS", "ConjugateGradient")}
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Lightning's own, on workers and deprecations


class Module(pl.LightningModule):
    """The network with an optimizer made by a function, and a schedule that falls each step."""

    def __init__(self, make, schedule=False, **options):
        super().__init__()
        self.make, self.schedule, self.network = make, schedule, net(**options)

    def training_step(self, batch, number):
        return loss_of(self.network, batch)

    def configure_optimizers(self):
        optimizer = self.make(self.network.parameters())
        if not self.schedule:
            return optimizer
        falling = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": falling, "interval": "step"}}


def fit(module, ckpt=None, **options):
    trainer = pl.Trainer(**{"max_epochs": EPOCHS, **QUIET, **options})
    trainer.fit(module, loader(), ckpt_path=ckpt, weights_only=True)
    return trainer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_rule_goes_the_way_of_ones_own_loop_with_a_schedule(name):
    module, model = Module(OPTIMIZERS[name], schedule=True), net()
    fit(module)
    optimizer = OPTIMIZERS[name](model.parameters())
    equal(flat(module), own_loop(model, optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)))


@pytest.mark.parametrize("name", CLOSURES)
def test_a_closure_method_goes_the_way_of_ones_own_loop(name):
    def make(params):
        return CLOSURES[name](params, max_iter=4)

    module, model = Module(make), net()
    trainer = fit(module)
    equal(flat(module), own_loop(model, make(model.parameters()), closure=True))
    assert trainer.optimizers[0].report.evaluations > 1
    assert trainer.global_step == 8


def test_curvature_needs_lightnings_manual_optimization():
    def make(params):
        return optim.TruncatedNewton(params, max_iter=2)

    with pytest.raises(ValueError, match="the closure"):
        fit(Module(make))

    class Manual(Module):
        def __init__(self):
            super().__init__(make)
            self.automatic_optimization = False

        def training_step(self, batch, number):
            self.optimizers().step(lambda: loss_of(self.network, batch))

    module, model = Manual(), net()
    fit(module)
    optimizer = make(model.parameters())
    for _ in range(EPOCHS):
        for batch in loader():
            optimizer.step(lambda batch=batch: loss_of(model, batch))
    equal(flat(module), flat(model))


def scaled(make, scale, **options):
    """Trains in float16 with a gradient scaler; returns module and trainer."""
    from pytorch_lightning.plugins.precision import MixedPrecision

    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
    module = Module(make)
    return module, fit(module, plugins=[MixedPrecision("16-mixed", "cpu", scaler)], **options)


def test_float16_with_a_gradient_scaler_clips_the_same_on_either_side_and_skips():
    def within(params):
        return optim.SGD(params, lr=0.5, clip_norm=0.1)

    ours, _ = scaled(within, 2.0**10)
    reference, _ = scaled(lambda params: torch.optim.SGD(params, lr=0.5), 2.0**10, gradient_clip_val=0.1)
    torch.testing.assert_close(flat(ours), flat(reference), rtol=1e-4, atol=1e-5)
    assert not torch.equal(flat(ours), flat(net()))

    averages = []

    def averaged(params):
        params = list(params)
        averages.append(Average(params, Polyak()))
        return optim.Adam(params, average=averages[0])

    _, trainer = scaled(averaged, 2.0**24)  # too much for float16: the scaler skips steps until it has come down
    steps = {int(state["step"]) for state in trainer.optimizers[0].state.values()}
    assert steps == {averages[0].step}
    assert 0 < averages[0].step < 8


def test_float16_refuses_a_closure_method_in_one_line():
    with pytest.raises(RuntimeError, match="gradient scaling in float16, cannot use it: take bfloat16 or float32"):
        scaled(optim.LBFGS, 2.0**10)
    module = Module(lambda p: optim.LBFGS(p, max_iter=4))
    before = sum(loss_of(module.network, batch).item() for batch in loader())
    fit(module, precision="bf16-mixed")
    assert sum(loss_of(module.network, batch).item() for batch in loader()) < before


@pytest.mark.parametrize("make", [lambda p: optim.NAdam(p, lr=0.01), lambda p: optim.LBFGS(p, max_iter=4)])
def test_a_checkpoint_goes_on_as_if_never_stopped(make, tmp_path):
    whole, first, second = (Module(make, schedule=True) for _ in range(3))
    fit(whole, max_epochs=4)
    fit(first, max_epochs=2).save_checkpoint(tmp_path / "half.ckpt")
    fit(second, ckpt=tmp_path / "half.ckpt", max_epochs=4)
    equal(flat(second), flat(whole))
    assert not torch.equal(flat(first), flat(whole))


def test_the_page_averages_and_paces_and_resumes_within_an_epoch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = page.run("Lightning")
    average = names["callbacks"][0].average
    assert (average.step, names["trainer"].global_step) == (40, 40)
    assert names["trainer"].callback_metrics["loss"] < 0.7

    def trained(steps, ckpt=None):
        difficulty = -names["x"][:400].abs().amax(dim=1)
        sampler = names["CurriculumSampler"](difficulty, names["Pacing"](start=0.3, over=20), batch_size=40)
        averaged = names["Averaged"]()
        torch.manual_seed(1)
        module = names["Classifier"]()
        trainer = pl.Trainer(max_steps=steps, callbacks=[averaged, names["Paced"](sampler)], **QUIET)
        given = names["DataLoader"](names["train"], batch_size=40, sampler=sampler)
        trainer.fit(module, given, ckpt_path=ckpt, weights_only=True)
        trainer.save_checkpoint(tmp_path / f"{steps}.ckpt")
        return flat(module), torch.cat([m.reshape(-1) for m in averaged.average.means.values()]), averaged.average.step

    straight = trained(40)
    trained(25)
    for again, expected in zip(trained(40, tmp_path / "25.ckpt"), straight, strict=True):
        assert again == expected if isinstance(again, int) else torch.equal(again, expected)
