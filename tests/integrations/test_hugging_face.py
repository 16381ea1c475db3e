"""Inside Hugging Face's Trainer and Accelerate: the way of a loop of one's own, averages, curricula, checkpoints."""

import math
import os
import shutil

import pytest
import torch

from tests.integrations import page
from tests.integrations.small import BATCH, EPOCHS, data, equal, flat, loader, loss_of, net, own_loop
from thalweg import optim
from thalweg.averaging import EMA, Average

pytestmark = pytest.mark.slow

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is loaded: nothing is to be fetched
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
RULES = {"NAdam": optim.NAdam, "AdamW": optim.AdamW, "SGD": lambda p: optim.SGD(p, 0.05, momentum=0.9)}


class Judged(torch.nn.Module):
    """A network in the form that Trainer wants: it is given labels and gives the loss."""

    def __init__(self):
        super().__init__()
        self.network = net()

    def forward(self, x, labels):
        return {"loss": torch.nn.functional.cross_entropy(self.network(x), labels)}


def trainer_of(model, folder, **options):
    settings = {
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": BATCH,
        "max_grad_norm": 0,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        **options.pop("settings", {}),
    }
    rows = [{"x": x, "labels": y} for x, y in data()]

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, train_dataset=None):
            return torch.utils.data.SequentialSampler(rows)

    return InOrder(model, transformers.TrainingArguments(str(folder), **settings), train_dataset=rows, **options)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_goes_the_way_of_ones_own_loop_with_a_schedule(name, tmp_path):
    model, own = Judged(), net()
    optimizer, mine = (RULES[name](m.parameters()) for m in (model, own))
    schedule, my_schedule = (torch.optim.lr_scheduler.ExponentialLR(o, 0.8) for o in (optimizer, mine))
    trainer_of(model, tmp_path, optimizers=(optimizer, schedule)).train()
    equal(flat(model), own_loop(own, mine, my_schedule))


def test_trainer_makes_the_optimizer_with_its_own_groups_and_clips(tmp_path):
    settings = {"weight_decay": 0.1, "learning_rate": 0.1, "max_grad_norm": 0.05, "lr_scheduler_type": "constant"}
    flats = []
    for kind in (optim.AdamW, torch.optim.AdamW):
        model = Judged()
        trainer = trainer_of(model, tmp_path, settings=settings, optimizer_cls_and_kwargs=(kind, {"lr": 0.1}))
        trainer.train()
        assert [g["weight_decay"] for g in trainer.optimizer.param_groups] == [0.1, 0.0]
        flats.append(flat(model))
    torch.testing.assert_close(*flats)


def test_trainer_refuses_a_closure_method_in_one_line(tmp_path):
    model = Judged()
    with pytest.raises(RuntimeError, match=r"Trainers that call step\(\) without a closure"):
        trainer_of(model, tmp_path, optimizers=(optim.LBFGS(model.parameters()), None)).train()


def test_the_page_averages_and_paces_and_resumes_within_an_epoch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    still = {"hidden_size=16": "hidden_size=16, hidden_dropout_prob=0, attention_probs_dropout_prob=0"}
    whole = page.run("Hugging Face", **still)
    shutil.rmtree("trained/checkpoint-40")
    resumed = page.run("Hugging Face", **still, **{"trainer.train()": "trainer.train(resume_from_checkpoint=True)"})
    assert whole["trainer"].state.global_step == whole["average"].step == resumed["average"].step == 40
    assert whole["trainer"].evaluate(whole["rows"])["eval_loss"] < 0.5
    for name, mean in whole["average"].means.items():
        equal(resumed["average"].means[name], mean)
    equal(flat(resumed["model"]), flat(whole["model"]))


def accelerated(optimizer_of, closure=False):
    accelerator, model = accelerate.Accelerator(cpu=True), net()
    optimizer = optimizer_of(model.parameters())
    model, optimizer, batches = accelerator.prepare(model, optimizer, loader())
    own_loop(model, optimizer, closure=closure, batches=batches, backward=accelerator.backward)
    return model


def test_accelerate_goes_the_way_of_ones_own_loop_with_closures_too():
    for make, closure in ((optim.NAdam, False), (lambda p: optim.LBFGS(p, max_iter=4), True)):
        model, own = accelerated(make, closure=closure), net()
        equal(flat(model), own_loop(own, make(own.parameters()), closure=closure))


def test_accelerates_gradient_scaler_clips_and_skips():
    def stepped(make, scale):
        model = net()
        optimizer = make(model)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        wrapped = accelerate.optimizer.AcceleratedOptimizer(optimizer, scaler=scaler)
        for batch in loader():
            wrapped.zero_grad()
            scaler.scale(loss_of(model, batch)).backward()
            wrapped.step()
        return flat(model), wrapped

    accelerate.Accelerator(cpu=True)
    ours, _ = stepped(lambda m: optim.SGD(m.parameters(), 0.5, clip_norm=0.1), 1024.0)
    own = net()
    torch.testing.assert_close(ours, own_loop(own, optim.SGD(own.parameters(), 0.5, clip_norm=0.1), epochs=1))
    averages = []

    def averaged(model):
        averages.append(Average(model, EMA(0.9)))
        return optim.Adam(model.parameters(), average=averages[0])

    unmoved, wrapped = stepped(averaged, math.inf)
    equal(unmoved, flat(net()))
    assert wrapped.step_was_skipped
    assert averages[0].step == 0


def test_accelerates_checkpoint_goes_on_as_if_never_stopped(tmp_path):
    def prepared():
        accelerator, model = accelerate.Accelerator(cpu=True), net()
        average = Average(model, EMA(0.9))
        accelerator.register_for_checkpointing(average)
        given = model, optim.Adam(model.parameters(), average=average), loader()
        return accelerator, average, *accelerator.prepare(*given)

    def train(accelerator, average, model, optimizer, batches):
        for batch in batches:
            optimizer.zero_grad()
            accelerator.backward(loss_of(model, batch))
            optimizer.step()

    whole, resumed = prepared(), prepared()
    train(*whole)
    whole[0].save_state(tmp_path)
    train(*whole)
    resumed[0].load_state(tmp_path)
    train(*resumed)
    equal(flat(resumed[2]), flat(whole[2]))
    assert resumed[1].step == whole[1].step == 8
    for name, mean in whole[1].means.items():
        equal(resumed[1].means[name], mean)


def test_the_page_steps_a_closure():
    names = page.run("Hugging Face", 1)
    assert names["optimizer"].optimizer.report.loss < 1e-2
