"""Lightning modules, data modules and optimizers that are no task or no strategy: one line that says why."""

import pytest
import torch
from torch import nn

from tests.adapters.small import Data, Module, pl, task
from thalweg.adapters import lightning_strategy
from thalweg.compare.task import materialize
from thalweg.compare.user_errors import TaskError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Lightning's own, on workers and deprecations


class Manual(Module):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False


class Silent(Module):
    def validation_step(self, batch):
        return None

    def on_validation_epoch_end(self):
        return None


class Untested(Module):
    def test_step(self, batch, batch_idx):
        self.log("test_zeal", 1.0)


class Text(Module):
    def validation_step(self, batch):
        self.log("val_acc", "high")


class Skipping(Module):
    def training_step(self, batch):
        return None


class NoTest(pl.LightningDataModule):
    train_dataloader, val_dataloader = Data.train_dataloader, Data.val_dataloader
    setup = Data.setup


class TwoLoaders(Data):
    def val_dataloader(self):
        return [super().val_dataloader()] * 2


BAD = {
    "by hand": ((Manual,), {}, r"Manual optimizes by hand .*: write a training loop, a function of a thalweg.Run"),
    "silent": ((Silent,), {}, "validation_step logs nothing: log the metric with self.log"),
    "another": ((Module,), {"metric": "val_zeal"}, "validation_step logs acc, loss, .*, and no 'zeal'"),
    "untested": ((Untested,), {}, "test_step logs zeal, and no 'acc'"),
    "text": ((Text,), {}, "the module logs 'val_acc' as a str: log a number"),
    "skips": ((Skipping,), {}, "training_step returns a NoneType: return the loss"),
    "no test data": ((Module, NoTest()), {}, r"NoTest has no test_dataloader\(\): final runs are tested on data"),
    "two loaders": ((Module, TwoLoaders()), {}, r"val_dataloader\(\) gives a list: return one DataLoader"),
    "no module": ((nn.Linear(2, 1),), {}, "Linear has no training_step of Lightning's"),
    "nothing": ((3,), {}, "the module is a int"),
}


@pytest.mark.parametrize(("given", "options", "match"), BAD.values(), ids=BAD)
def test_what_is_no_task_is_one_line(given, options, match):
    with pytest.raises(TaskError, match=match) as raised:
        materialize(task(*given, **options))
    assert len(str(raised.value).splitlines()) == 1


def several(self):
    return [torch.optim.SGD(self.parameters(), 0.1), torch.optim.SGD(self.parameters(), 0.1)]


def plateau(self):
    optimizer = torch.optim.SGD(self.parameters(), 0.1)
    return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)}


def of_trainer(self):
    optimizer = torch.optim.SGD(self.parameters(), 0.1)
    total = self.trainer.estimated_stepping_batches
    return [optimizer], [torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total)]


@pytest.mark.parametrize(
    ("configure", "match"),
    [
        (several, "returns 2 optimizers and 0 schedulers: a strategy has one"),
        (plateau, "the scheduler of configure_optimizers follows a metric"),
        (of_trainer, "not attached to a `Trainer`.*: give it what it needs without a Trainer"),
        (lambda self: None, "configure_optimizers returns a NoneType: return the optimizer"),
    ],
)
def test_what_is_no_strategy_is_one_line(configure, match):
    given = task(type("Own", (Module,), {"configure_optimizers": configure}))
    with pytest.raises(TaskError, match=match) as raised:
        lightning_strategy(given)
    assert len(str(raised.value).splitlines()) == 1


def test_hooks_that_are_not_run_are_named():
    class Hooked(Module):
        def on_before_optimizer_step(self, optimizer):
            self.log("norm", 1.0)

    with pytest.warns(UserWarning, match="not run, since there is no Trainer: on_before_optimizer_step"):
        task(Hooked)
