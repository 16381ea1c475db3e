"""Names of the release before: they work, with a warning that gives the present name."""

import importlib

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import thalweg
from thalweg.diagnosis.findings import Finding
from thalweg.optim import Adam
from thalweg.stages import Batches, Stage, supervised
from thalweg.tensors.renamed import renamed
from thalweg.training import train


@pytest.mark.parametrize(
    ("module", "former", "name"),
    [
        ("thalweg.training", "Watch", "TrainingCallback"),
        ("thalweg.compare.log.tracker", "Run", "TrackedRun"),
        ("thalweg.compare.task", "Guides", "GuidanceInputs"),
    ],
)
def test_a_former_name_is_the_present_thing(module, former, name):
    found = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=f"{module}.{former} is now called {name}: rename it"):
        assert getattr(found, former) is getattr(found, name)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        found.Nothing  # noqa: B018


def test_an_option_under_both_names_is_refused():
    with pytest.raises(ValueError, match="two names for one thing: keep 'new'"):
        renamed({"old": 1, "new": 2}, {"old": "new"})


@pytest.mark.parametrize(
    ("former", "name", "value"), [("fix", "fix_code", "step()"), ("mend", "apply_fix", nn.Module.eval)]
)
def test_a_finding_is_made_and_read_by_former_names(former, name, value):
    with pytest.warns(DeprecationWarning, match=f"the option {former!r} is now called {name!r}") as made:
        old = Finding("dead units", "error", "0", 1.0, "all are 0", **{former: value})
    assert made[0].filename == __file__
    assert getattr(old, name) is value
    with pytest.warns(DeprecationWarning, match=f"Finding.{former} is now called {name}") as read:
        assert getattr(old, former) is value
    assert read[0].filename == __file__
    with pytest.raises(ValueError, match=f"keep {name!r}"):
        Finding("dead units", "error", "0", 1.0, "all are 0", **{former: value, name: value})
    with pytest.raises(TypeError, match="unexpected keyword argument 'cure'"):
        Finding("dead units", "error", "0", 1.0, "all are 0", cure=value)


def test_training_calls_a_callback_that_is_given_by_its_former_name():
    class Count:
        steps = 0

        def stage(self, name, done, total):
            pass

        def row(self, row):
            pass

        def advance(self):
            self.steps += 1

    stage = Stage(
        objective=supervised(nn.functional.mse_loss),
        data=Batches(torch.ones(4, 1), torch.ones(4, 1), batch_size=2),
        optimizer=Adam,
        steps=3,
    )
    count = Count()
    with pytest.warns(DeprecationWarning, match="the option 'watch' is now called 'callback'"):
        train(nn.Linear(1, 1), [stage], watch=count)
    assert count.steps == 3


def test_a_task_takes_and_gives_its_guidance_inputs_by_their_former_names():
    data = TensorDataset(torch.zeros(4, 1), torch.zeros(4, 1))
    with pytest.warns(DeprecationWarning, match="GuidanceInputs"):
        inputs = thalweg.Guides(hint="1")
    with pytest.warns(DeprecationWarning, match="'guides' is now called 'guidance_inputs'"):
        task = thalweg.Task(nn.Identity, data, data, data, nn.functional.mse_loss, guides=inputs)
    assert task.guidance_inputs is inputs
    with pytest.warns(DeprecationWarning, match="Task.guides is now called guidance_inputs"):
        assert task.guides is inputs
