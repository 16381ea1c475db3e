"""An optimizer that cannot train the model is a result of its own strategy, and the others are compared without it."""

import json
import re

import pytest
import torch
from torch import nn

import thalweg
from tests.compare.small import small_task
from thalweg import Strategy
from thalweg.compare.study.verdict import check_expectation


class SGD(torch.optim.SGD):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)


class Breaks(SGD):
    """It raises in the middle of a run."""

    steps = 0

    def step(self, closure=None):
        self.steps += 1
        if self.steps > 9:
            raise RuntimeError("out of ideas\nand of lines")
        return super().step(closure)


class Keeps(SGD):
    """It has state that cannot be stored."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr)
        self.state["odd"] = {"what": object()}


class Device(SGD):
    """It needs a device that is not there."""

    def step(self, closure=None):
        torch.zeros(1, device="cuda:77")


class Rates(SGD):
    """It changes its own learning rate."""

    def step(self, closure=None):
        self.param_groups[0]["lr"] *= 0.99
        return super().step(closure)


class Asks(SGD):
    """It wants a model that nobody has."""

    def __init__(self, params, teacher, lr=0.1):
        super().__init__(params, lr)


def strategy(optimizer, **options):
    return Strategy(optimizer.__name__, factory=optimizer, defaults={"lr": 0.1}, **options)


IMPOSSIBLE = {
    "Breaks": (strategy(Breaks), r"cannot step this model \(RuntimeError: out of ideas\)"),
    "Keeps": (strategy(Keeps), r"cannot be interrupted: the optimizer's state_dict\(\) holds a object"),
    "Device": (strategy(Device), r"cannot step this model \((AssertionError|RuntimeError|AcceleratorError): "),
    "Rates": (strategy(Rates, schedule_name="cosine"), "changes its own learning rate, and so does the schedule"),
    "Asks": (strategy(Asks), "cannot step this model with lr=0.1 .TypeError: .*'teacher'"),
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    strategies = ["sgd", Strategy("fine", factory=Rates, defaults={"lr": 0.1}), *(s for s, _ in IMPOSSIBLE.values())]
    settings = {"trials": 1, "seeds": 2, "steps": 30, "engine": "serial"}
    return thalweg.compare(small_task(), strategies, out=tmp_path_factory.mktemp("study") / "o", **settings)


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_it_says_why_in_a_line(done, name):
    pattern = IMPOSSIBLE[name][1]
    found = {s["name"]: s for s in done.results["strategies"]}[name]
    assert found["failed"]["count"] == found["failed"]["of"] == 2
    assert len(found["could_not_run"].splitlines()) == 1
    for text in (found["could_not_run"], *(line for line in done.details if name in line)):
        assert re.search(pattern, text), text
    assert {row["strategy"]: row["tuned to"] for row in done.rows()}[name] == "could not run"
    assert f"Could not run: {next(iter(IMPOSSIBLE))}, which" in done.report.read_text()


def test_the_others_are_compared_as_if_it_were_not_there(done):
    compared = {name for pair in done.results["pairs"] for name in (pair["a"], pair["b"])}
    assert compared == {"sgd", "fine"}
    assert {s["name"] for s in done.results["strategies"]} == {"sgd", "fine", *IMPOSSIBLE}
    assert all(s["could_not_run"] is None for s in done.results["strategies"] if s["name"] in compared)
    assert not check_expectation("sgd beats Breaks", done.results["pairs"])
    assert json.loads((done.folder / "results.json").read_text())["verdict"]["tied"] is not None


def test_where_nothing_can_run_there_is_no_study(tmp_path):
    with pytest.raises(ValueError, match="strategy 'Device' cannot step this model"):
        thalweg.compare(small_task(), [IMPOSSIBLE["Device"][0], IMPOSSIBLE["Asks"][0]], steps=30, out=tmp_path / "o")
    assert not (tmp_path / "o").exists()


class Twice(SGD):
    def step(self, closure):
        closure()
        return super().step(closure)


def train(run):
    model = nn.Linear(2, 1)
    optimizer = run.optimizer(model)
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    for (batch,) in run.batches(torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=8)):

        def closure(batch=batch):
            optimizer.zero_grad()
            loss = (model(batch) - batch.sum(1, keepdim=True)).square().mean()
            loss.backward()
            return loss

        run.loss(optimizer.step(closure))
        if run.due:
            run.report(valid={"loss": float(closure())})
    run.report(test={"loss": float(closure())})


def test_a_training_loop_of_ones_own_goes_on_without_it(tmp_path):
    strategies = [strategy(Twice), strategy(Breaks), IMPOSSIBLE["Rates"][0], strategy(Keeps), "sgd"]
    done = thalweg.compare(train, strategies, trials=1, seeds=2, steps=30, out=tmp_path / "o")
    reasons = {s["name"]: s["could_not_run"] for s in done.results["strategies"]}
    assert "evaluates the gradient 2 times in a step" in reasons["Twice"]
    assert "out of ideas" in reasons["Breaks"]
    assert "changes its own learning rate" in reasons["Rates"]
    assert "cannot be interrupted" in reasons["Keeps"]
    assert reasons["sgd"] is None
