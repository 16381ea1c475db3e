"""To what weight decay is applied: to all parameters by default, as in torch, or to weights alone."""

import copy

import pytest
import torch
from torch import nn

from tests.optim.pairs import each, net, same, train
from thalweg import optim
from thalweg.normalization import BatchNorm
from thalweg.optim import no_decay_groups


@each
@pytest.mark.parametrize("engine", ["auto", "foreach"])
def test_twenty_steps_are_torchs_at_weight_decay(ours, torchs, options, engine):
    one, two = net(), net()
    options = {**options, "weight_decay": 0.1}
    same(train(one, ours(one.parameters(), engine=engine, **options)), train(two, torchs(two.parameters(), **options)))


def test_a_bare_adamw_is_torchs_after_two_hundred_steps():
    one, two = net(), net()
    same(train(one, optim.AdamW(one.parameters()), 200), train(two, torch.optim.AdamW(two.parameters()), 200))


@each
def test_checkpoints_go_on_with_the_same_decay_both_ways(ours, torchs, options):
    def relay(first, second):
        model = net()
        begun = first(model.parameters(), **options, weight_decay=0.1)
        train(model, begun, 7)
        goes_on = second(model.parameters(), **options)
        goes_on.load_state_dict(begun.state_dict())
        return train(model, goes_on, 7)

    alone = relay(torchs, torchs)
    for order in ((torchs, ours), (ours, torchs), (ours, ours)):
        same(relay(*order), alone)


@each
def test_weights_alone_are_what_torch_does_with_the_groups_of_the_helper(ours, torchs, options):
    one, two, three = net(), net(), net()
    a = train(one, ours(one.parameters(), **options, weight_decay=0.1, decay="weights"))
    same(a, train(two, torchs(no_decay_groups(two, 0.1), **options)))
    same(a, train(three, ours(no_decay_groups(three.named_parameters(), 0.1), **options)))


@pytest.mark.parametrize(
    "make", [optim.LBFGS, optim.BFGS, optim.ConjugateGradient, optim.Newton, optim.TruncatedNewton]
)
def test_closure_optimizers_agree(make):
    """The minimum of ½‖θ − 1‖² + ½λ‖θ‖² is 1/(1 + λ) where λ is applied, 1 elsewhere."""

    def minimum(**options):
        params = [nn.Parameter(torch.zeros(2, 2, dtype=torch.float64)), nn.Parameter(torch.zeros(3).double())]
        given = no_decay_groups(params, 0.25) if options.pop("grouped", False) else params
        optimizer = make(given, max_iter=20, **({} if given is not params else {"weight_decay": 0.25}), **options)
        optimizer.step(lambda: sum(0.5 * (p - 1).square().sum() for p in params))
        return [round(p.mean().item(), 6) for p in params]

    assert minimum() == [0.8, 0.8]
    assert minimum(decay="weights") == minimum(grouped=True) == [0.8, 1.0]
    with pytest.raises(ValueError, match="Invalid decay: 'non': choose all or weights"):
        minimum(decay="non")


class Tied(nn.Module):
    """All that a list of tensors does not show: a tied embedding, normalizations and biases of several dimensions."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.norm = nn.LayerNorm([3, 4])
        self.attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)
        self.batch_norm = BatchNorm(3)
        self.convolution = nn.Conv1d(3, 3, 1)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(()))
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embedding.weight


def names_in(model, groups):
    names = {id(p): name for name, p in model.named_parameters()}
    return [[names[id(p)] for p in group["params"]] for group in groups]


def test_the_helper_knows_a_model():
    model = Tied()
    weights, rest = names_in(model, no_decay_groups(model))
    assert weights == [
        "embedding.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "convolution.weight",
        "frozen.weight",
    ]
    assert sorted(weights + rest) == sorted(name for name, _ in model.named_parameters())
    assert {"norm.weight", "attention.bias_k", "scale", "frozen.bias", "batch_norm.weight"} <= set(rest)
    weights, rest = names_in(model, no_decay_groups(model, also=(nn.Embedding,)))
    assert "embedding.weight" in rest
    assert "embedding.weight" not in weights


def test_the_helper_takes_what_an_optimizer_takes_and_keeps_names_and_settings():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    plain = no_decay_groups(model.parameters())
    assert [len(group["params"]) for group in plain] == [2, 2]
    assert "weight_decay" not in plain[0]
    assert plain[1]["weight_decay"] == 0.0
    assert not any("param_names" in group for group in plain)
    named = optim.Adam(no_decay_groups(model.named_parameters(), 0.1))
    assert [group["param_names"] for group in named.state_dict()["param_groups"]] == [
        ["0.weight", "1.weight"],
        ["0.bias", "1.bias"],
    ]
    again = no_decay_groups(named.param_groups)  # groups, with names, divided already
    assert [group["param_names"] for group in again] == [["0.weight", "1.weight"], ["0.bias", "1.bias"]]
    assert [group["weight_decay"] for group in again] == [0.1, 0.0]
    layers = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[1].weight, "weight_decay": 0.5}]
    assert [(len(g["params"]), g.get("lr"), g.get("weight_decay")) for g in no_decay_groups(layers)] == [
        (1, 0.1, None),
        (1, 0.1, 0.0),
        (1, None, 0.5),
    ]
    twice = no_decay_groups([model[0].weight, model[0].weight])
    assert [len(group["params"]) for group in twice] == [1]  # no empty group, and each parameter once
    assert [list(group) for group in no_decay_groups(nn.Linear(2, 2, bias=False))] == [["params"]]
    assert no_decay_groups([]) == []


def test_frozen_parameters_stand_still_and_can_be_thawed():
    model = net()
    model[0].requires_grad_(False)
    optimizer = optim.AdamW(no_decay_groups(model, 0.1))
    before = copy.deepcopy(model[0].weight)
    train(model, optimizer, 2)
    assert torch.equal(model[0].weight, before)
    model[0].requires_grad_(True)
    train(model, optimizer, 1)
    assert not torch.equal(model[0].weight, before)


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        (nn.Linear(2, 2).weight, {}, TypeError, "params is a Parameter: pass the model"),
        (set(nn.Linear(2, 2).parameters()), {}, TypeError, "params is a set: pass the model"),
        (nn.LazyLinear(3), {}, ValueError, "has no shape yet: run a batch"),
        ([nn.Parameter(torch.zeros(2))], {"also": (nn.Embedding,)}, ValueError, "pass the model"),
    ],
)
def test_what_cannot_be_divided_is_one_line(given, options, error, message):
    with pytest.raises(error, match=message):
        no_decay_groups(given, **options)
