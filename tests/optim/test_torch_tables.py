"""Torch's own tables of optimizer inputs and errors, run over these optimizers on each engine."""

import warnings

import pytest
import torch
from torch import nn
from torch.testing._internal import common_optimizers as table

from thalweg import optim

PAIRS = {
    "sgd": (optim.SGD, torch.optim.SGD),
    "adagrad": (optim.AdaGrad, torch.optim.Adagrad),
    "adadelta": (optim.Adadelta, torch.optim.Adadelta),
    "rmsprop": (optim.RMSProp, torch.optim.RMSprop),
    "adam": (optim.Adam, torch.optim.Adam),
    "adamw": (optim.AdamW, torch.optim.AdamW),
    "nadam": (optim.NAdam, torch.optim.NAdam),
}
INPUTS = [(name, i) for name in PAIRS for i in getattr(table, f"optim_inputs_func_{name}")("cpu")]
TORCHS_OWN = {"foreach", "fused", "capturable", "differentiable"}  # switches between torch's implementations
ERRORS = [
    (name, e)
    for name in PAIRS
    for e in getattr(table, f"optim_error_inputs_func_{name}")("cpu", torch.float32)
    if not TORCHS_OWN & set(e.optimizer_error_input.kwargs)
]


def model(dtype=torch.float64):
    torch.manual_seed(5)
    net = nn.Sequential(nn.Linear(5, 150), nn.Tanh(), nn.Linear(150, 120), nn.Tanh(), nn.Linear(120, 1))
    return net.to(dtype)


def train(net, optimizer, steps=8, change_lr=None):
    generator = torch.Generator().manual_seed(6)
    dtype = next(net.parameters()).dtype
    for i in range(steps):
        if change_lr and i == change_lr:
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] * 0.3
        x = torch.randn(16, 5, generator=generator).to(dtype)
        optimizer.zero_grad()
        (net(x) - x.sum(dim=1, keepdim=True)).square().mean().backward()
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()]


@pytest.mark.parametrize("engine", ["foreach", "compiled", "auto"])
@pytest.mark.parametrize(("name", "given"), INPUTS, ids=[f"{n}: {i.desc}" for n, i in INPUTS])
def test_trajectory_is_torchs(name, given, engine):
    ours, torchs = PAIRS[name]
    one, two = model(), model()
    mine = train(one, ours(one.parameters(), engine=engine, **given.kwargs), change_lr=4)
    theirs = train(two, torchs(two.parameters(), **given.kwargs), change_lr=4)
    # torch computes AdaGrad's and RMSProp's steps in another order of operations: equal to rounding, no more.
    torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("name", "error"), ERRORS, ids=[f"{n}: {e.optimizer_error_input.desc}" for n, e in ERRORS])
def test_errors_are_torchs(name, error):
    given = error.optimizer_error_input
    params = [nn.Parameter(torch.zeros(1))] if given.params is None else given.params
    if issubclass(error.error_type, Warning):
        with pytest.warns(error.error_type, match=error.error_regex):
            PAIRS[name][0](params, **given.kwargs)
    else:
        with warnings.catch_warnings(), pytest.raises(error.error_type, match=error.error_regex):
            PAIRS[name][0](params, **given.kwargs)


@pytest.mark.parametrize("name", PAIRS)
def test_state_travels_both_ways(name):
    """A run begun by torch's optimizer goes on in ours as if it had been ours, and the reverse."""
    ours, torchs = PAIRS[name]
    options = {"momentum": 0.9} if name in ("sgd", "rmsprop") else {}
    options |= {"amsgrad": True} if name in ("adam", "adamw") else {}

    def relay(first, second):
        net = model()
        optimizer = first(net.parameters(), **options)
        train(net, optimizer)
        following = second(net.parameters(), **options)
        following.load_state_dict(optimizer.state_dict())
        return train(net, following)

    alone = relay(torchs, torchs)
    for order in ((torchs, ours), (ours, torchs), (ours, ours)):
        torch.testing.assert_close(relay(*order), alone, rtol=1e-7, atol=1e-9)
