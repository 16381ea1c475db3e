"""What is judged is what was meant: targets as torch's cross-entropy has them, data that stay as they are, numbers."""

import re

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import TensorDataset

import thalweg
from thalweg import Task
from thalweg.compare.task import materialize
from thalweg.compare.user_errors import TaskError

CUTS = ((0, 60), (60, 80), (80, 100))
GENERATOR = torch.Generator().manual_seed(0)
X, S, L = (torch.randn(100, *shape, generator=GENERATOR) for shape in ((4,), (4, 4), (5, 4)))
Y, W = (X[:, 0] > 0).long(), X.sum(dim=1, keepdim=True)
SOFT = torch.stack([0.9 - 0.8 * Y, 0.1 + 0.8 * Y], dim=1)
GAPS, SHIFTED = Y.clone(), Y + 1
GAPS[::3], SHIFTED[::3] = -100, 0


def labels(x):
    return (x[..., 0] > 0).long() + 2 * (x[..., 1] > 0).long()


def task(model, x, y, loss, **options):
    data = [TensorDataset(x[a:b].clone(), y[a:b].clone()) for a, b in CUTS]
    return Task(model, *data, loss, **{"batch_size": 20, "steps": 6, **options})


def compared(of, out, strategies=("sgd",), **options):
    return thalweg.compare(of, strategies, **{"trials": 1, "seeds": 2, "engine": "serial", "out": out, **options})


def linear(n=2):
    return lambda: nn.Linear(4, n)


class Applied(nn.Module):
    """A linear layer on a function of the input, and a function of what it gives."""

    def __init__(self, before=lambda x: x, after=lambda h: h, outputs=2):
        super().__init__()
        self.inner, self.before, self.after = nn.Linear(4, outputs), before, after

    def forward(self, x):
        kept = self.before(x)
        return self.after(self.inner(x if kept is None else kept))


def positions():
    return Applied(after=lambda h: h.transpose(1, 2), outputs=4)


def own(o, t):
    return cross_entropy(o.flatten(0, 1), t.flatten())


def hits(keep=lambda t: t == t, dim=1):
    return lambda o, t: (o.argmax(dim) == t)[keep(t)].double().mean()


JUDGED = {  # task, and what its accuracy is
    "positions, as many as classes": (positions, S, labels(S), cross_entropy, {}, hits()),
    "positions": (positions, L, labels(L), nn.CrossEntropyLoss(), {}, hits()),
    "classes last": (linear(4), L, labels(L), own, {"metric": "accuracy"}, hits(dim=2)),
    "ignored": (linear(), X, GAPS, nn.CrossEntropyLoss(), {}, hits(lambda t: t >= 0)),
    "ignored 0": (linear(3), X, SHIFTED, nn.CrossEntropyLoss(ignore_index=0), {}, hits(lambda t: t > 0)),
    "probabilities": (linear(), X, SOFT, cross_entropy, {}, lambda o, t: (o.argmax(1) == t.argmax(1)).double().mean()),
    "as many as a batch": (
        linear(20),
        X,
        torch.randn(100, 20, generator=GENERATOR).softmax(1),
        cross_entropy,
        {},
        lambda o, t: (o.argmax(1) == t.argmax(1)).double().mean(),
    ),
}


@pytest.mark.parametrize(("model", "x", "y", "loss", "options", "true"), JUDGED.values(), ids=JUDGED)
def test_accuracy_is_that_of_what_the_loss_trains(model, x, y, loss, options, true, tmp_path):
    by_name = compared(task(model, x, y, loss, **options), tmp_path / "named").results["strategies"][0]
    by_hand = compared(task(model, x, y, loss, metric=true), tmp_path / "own").results["strategies"][0]
    assert by_name["test"]["per_seed"] == pytest.approx(by_hand["test"]["per_seed"], abs=1e-6)


WRITERS = {
    "model": (lambda: Applied(lambda x: x.div_(2)), X, Y, cross_entropy, {}, "the model modifies"),
    "model, unseen by autograd": (lambda: Applied(lambda x: x.data.div_(2)), X, Y, cross_entropy, {}, "model modifies"),
    "model, by NumPy": (lambda: Applied(lambda x: x.numpy().sort()), X, Y, cross_entropy, {}, "the model modifies"),
    "rectifier": (lambda: nn.Sequential(nn.ReLU(True), nn.Linear(4, 2)), X, Y, cross_entropy, {}, "nn.ReLU\\(\\) in"),
    "loss": (linear(1), X, W, lambda o, t: mse_loss(o, t.sub_(0.1)), {}, "the loss modifies"),
    "loss, into the output": (linear(1), X, W, lambda o, t: mse_loss(o.sub_(1), t), {}, "the loss modifies"),
    "metric": (linear(), X, Y, cross_entropy, {"metric": lambda o, t: t.zero_().sum()}, "the metric modifies"),
}
NUMBERS = {
    "one value": (linear(1), X, torch.ones(100, 1), mse_loss, {"metric": "r2"}, "validation targets are all equal"),
    "NaN": (linear(1), X, W, mse_loss, {"metric": lambda o, t: o.sum() * float("nan")}, "untrained model is nan"),
    "infinite": (linear(1), X, W, mse_loss, {"metric": lambda o, t: o.sum().abs() / 0}, "untrained model is inf"),
    "no label left": (linear(), X, 0 * Y - 100, nn.CrossEntropyLoss(), {}, "no label but the ignored one"),
    "one class": (linear(1), X, 1.0 * Y[:, None], mse_loss, {"metric": "accuracy"}, "has one: give the metric"),
    "either dimension": (linear(4), S, labels(S), own, {"metric": "accuracy"}, "could be the second or the last"),
    "neither": (linear(), X, Y[:, None], lambda o, t: cross_entropy(o, t[:, 0]), {"metric": "accuracy"}, "not fit"),
}


@pytest.mark.parametrize(
    ("model", "x", "y", "loss", "options", "match"), [*WRITERS.values(), *NUMBERS.values()], ids=[*WRITERS, *NUMBERS]
)
def test_what_cannot_be_judged_is_refused_before_anything_changes(model, x, y, loss, options, match):
    given = task(model, x, y, loss, **options)
    before = [(t.clone(), t) for part in (given.train, given.valid, given.test) for t in part.tensors]
    with pytest.raises(TaskError) as raised:
        materialize(given)
    assert re.search(match, str(raised.value))
    assert "\n" not in str(raised.value)
    assert all(torch.equal(*pair) for pair in before)


def test_data_that_change_in_training_end_it(tmp_path):
    written = []

    def late(output, target):
        written.append(target)
        if len(written) > 10:
            target.add_(1)
        return mse_loss(output, target)

    with pytest.raises(TaskError, match="has modified the data that all trials share"):
        compared(task(linear(1), X, W, mse_loss, metric=late, higher_is_better=False), tmp_path / "o")


def test_no_verdict_hangs_on_what_is_no_number(tmp_path):
    def only_on_validation(output, target):
        return mse_loss(output, target) / (0 if torch.equal(target, W[80:]) else 1)

    done = compared(task(linear(1), X, W, mse_loss, metric=only_on_validation), tmp_path / "o", ("sgd", "adam"))
    assert done.results["verdict"]["winner"] is None
    assert done.verdict == "No verdict: the test only_on_validation of sgd and adam is not a number."
    assert done.report.exists()
    assert [row["test\nonly_on_validation"] for row in done.rows()] == ["–", "–"]
    for text in ("adam beats sgd", "sgd beats adam", "adam ties sgd"):
        assert not thalweg.compare.study.verdict.check_expectation(text, done.results["pairs"])
