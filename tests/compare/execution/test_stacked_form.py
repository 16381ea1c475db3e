"""Recurrent layers in lanes have torch's values, and lanes train them only where that is faster."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from tests.compare.small import job
from thalweg import Task
from thalweg.compare.execution import selection
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.selection import EngineSelector
from thalweg.compare.execution.serial import Serial
from thalweg.compare.execution.stackable import unstackable_reason
from thalweg.compare.execution.stacked_form import Unrolled, stacked_form
from thalweg.compare.strategy import Strategy
from thalweg.compare.task import materialize
from thalweg.tensors.draws import own_draws

KINDS = (nn.RNN, nn.GRU, nn.LSTM)
FORMS = {
    "plain": {},
    "batch-first": {"batch_first": True},
    "both-ways": {"bidirectional": True, "num_layers": 2},
    "no-bias": {"bias": False, "num_layers": 3},
    "all": {"bidirectional": True, "num_layers": 2, "batch_first": True, "dropout": 0.5},
}


def flat(found):
    output, states = found
    return [output, *(states if isinstance(states, tuple) else (states,))]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_torchs(kind, form):
    for dtype, bound in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        torch.manual_seed(0)
        theirs = kind(5, 4, dtype=dtype, **FORMS[form])
        theirs.dropout = 0.0 if form == "all" else theirs.dropout  # which draws otherwise
        ours = stacked_form(deepcopy(theirs))
        assert isinstance(ours, Unrolled)
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        one = theirs.num_layers * (1 + theirs.bidirectional)
        start = torch.randn(one, 3, 4, dtype=dtype)
        start = (start, start + 1) if kind is nn.LSTM else start
        alone = tuple(h[:, 0] for h in start) if kind is nn.LSTM else start[:, 0]
        for shape, states in (((3, 3, 5), None), ((3, 3, 5), start), ((7, 5), None), ((7, 5), alone)):
            x = torch.randn(shape, dtype=dtype)
            found, expected = (flat(layer(x, states)) for layer in (ours, theirs))
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=bound, atol=bound)
            for layer, outputs in ((ours, found), (theirs, expected)):
                layer.zero_grad()
                sum(output.square().sum() for output in outputs).backward()
            for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
                torch.testing.assert_close(a.grad, b.grad, rtol=20 * bound, atol=20 * bound)


def test_the_rectifier_and_dropout_between_layers():
    theirs = nn.RNN(3, 4, nonlinearity="relu")
    x = torch.randn(6, 2, 3)
    torch.testing.assert_close(stacked_form(deepcopy(theirs))(x)[0], theirs(x)[0])
    dropped = stacked_form(nn.GRU(3, 50, num_layers=2, dropout=0.9))
    with own_draws(0):
        one, two = dropped(x)[0], dropped(x)[0]
    assert not torch.equal(one, two)
    assert torch.equal(dropped.eval()(x)[0], dropped(x)[0])


def test_what_has_no_such_form_is_left_with_the_reason():
    class Own(nn.LSTM):
        pass

    for layer in (
        nn.LSTM(3, 4, proj_size=2),
        Own(3, 4),
        nn.utils.parametrizations.weight_norm(nn.GRU(3, 4), "weight_hh_l0"),
    ):
        assert "whose fused kernel has no stacked form" in unstackable_reason(stacked_form(nn.Sequential(layer)))
    with pytest.raises(NotImplementedError, match="packed sequence"):
        stacked_form(nn.LSTM(3, 4))(pack_sequence([torch.ones(2, 3), torch.ones(1, 3)]))


class Tagger(nn.Module):
    def __init__(self, kind=nn.LSTM, **options):
        super().__init__()
        self.embedding = nn.Embedding(9, 4)
        self.layer = kind(4, 6, batch_first=True, **options)
        self.head = nn.Linear(6, 2)

    def forward(self, ids):
        self.layer.flatten_parameters()
        return self.head(self.layer(self.embedding(ids))[0][:, -1])


IDS = torch.randint(9, (90, 7), generator=torch.Generator().manual_seed(0))
PARTS = [torch.utils.data.TensorDataset(ids, (ids.float().mean(1) > 4).long()) for ids in IDS.split(30)]


def context_of(model=Tagger):
    task = Task(model, *PARTS, nn.functional.cross_entropy, batch_size=10, name="tags", steps=30)
    return TaskContext(task, materialize(task), torch.device("cpu"))


@pytest.mark.parametrize("kind", KINDS)
def test_lanes_train_recurrent_layers_as_alone(kind):
    context = context_of(lambda: Tagger(kind))
    jobs = [job("adam", lr, seed, stop=14, key=f"{lr} {seed}") for lr in (0.01, 0.03) for seed in (1, 2)]
    lanes = Lanes(context, 3, compile_=False)
    lanes.probe()
    for stacked, alone in zip(lanes.run(jobs, lambda n: None), Serial(context).run(jobs, lambda n: None), strict=True):
        torch.testing.assert_close(stacked.snapshot["params"], alone.snapshot["params"], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(stacked.curve.valid_loss, alone.curve.valid_loss, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("stacked", "name"), [(0.5, "lanes"), (1.5, "serial")])
def test_lanes_take_them_where_they_are_measured_faster(stacked, name, monkeypatch):
    context = context_of()
    monkeypatch.setattr(selection, "COMPILE_SECONDS", 0.0)
    monkeypatch.setattr(EngineSelector, "_in_turns", lambda *_: (stacked, 1.0))
    selector = EngineSelector(context, "auto", None, [(8, 30)])
    (choice,) = selector.choose([Strategy.parse("adam")], job("adam", 0.01))
    assert choice.name == name
    words = {
        "lanes": "lanes compute torch's LSTM by thalweg's, which can be stacked",
        "serial": "recurrent layers on a CPU",
    }
    assert words[name] in choice.reason
    if name == "lanes":
        assert not selector.lanes.compile
