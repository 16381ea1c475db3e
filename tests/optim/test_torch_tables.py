"""Torch's own tables of optimizer inputs and errors, run over these optimizers on each engine.

What torch's test suite checks beside its tables is in test_as_torch and test_schedulers, written anew.
"""

import warnings

import pytest
import torch
from torch import nn
from torch.testing._internal import common_optimizers as table

from thalweg import optim

pytestmark = pytest.mark.slow

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
# What torch refuses and these take, with the reason.
TAKEN = {
    "lr as Tensor doesn't work with foreach & not capturable": "every engine takes the learning rate as a tensor",
    r"betas\[0\] as a Tensor is not supported for capturable=False and foreach=True": "every engine takes them so",
}
ERRORS = [
    (name, e)
    for name in [*PAIRS, "lbfgs"]
    for e in getattr(table, f"optim_error_inputs_func_{name}")("cpu", torch.float32)
]
SWITCHES = ["foreach", "fused"]  # differentiable steps are in test_differentiable


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


# Compiled, every rule is held to foreach in test_conventions; these are forms that are compiled nowhere else.
APART = [("sgd", "default"), ("adam", "maximize")]


@pytest.mark.parametrize(
    ("name", "given", "engine"),
    [
        pytest.param(name, given, engine, id=f"{name}: {given.desc}-{engine}")
        for name, given in INPUTS
        for engine in ("foreach", "compiled", "auto")
        if engine != "compiled" or (name, given.desc) in APART
    ],
)
def test_trajectory_is_torchs(name, given, engine):
    ours, torchs = PAIRS[name]
    one, two = model(), model()
    tested = train(one, ours(one.parameters(), engine=engine, **given.kwargs), change_lr=4)
    reference = train(two, torchs(two.parameters(), **given.kwargs), change_lr=4)
    # torch computes AdaGrad's and RMSProp's steps in another order of operations: equal to rounding, no more.
    torch.testing.assert_close(tested, reference, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize(("name", "given"), [(n, i) for n, i in INPUTS if (n, i.desc) in APART], ids=["sgd", "adam"])
def test_trajectory_is_torchs_under_its_switches(name, given, switch):
    """The switches choose among implementations, which the test above holds to torch's."""
    ours, torchs = PAIRS[name]
    one, two = model(), model()
    tested = train(one, ours(one.parameters(), **given.kwargs, **{switch: True}), steps=4)
    reference = train(two, torchs(two.parameters(), **given.kwargs), steps=4)
    torch.testing.assert_close(tested, reference, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("name", "error"), ERRORS, ids=[f"{n}: {e.optimizer_error_input.desc}" for n, e in ERRORS])
def test_errors_are_torchs(name, error):
    given, ours = error.optimizer_error_input, PAIRS.get(name, (optim.LBFGS,))[0]
    params = [nn.Parameter(torch.zeros(1))] if given.params is None else given.params
    if given.desc in TAKEN:
        ours(params, **given.kwargs)
    elif issubclass(error.error_type, Warning):
        with pytest.warns(error.error_type, match=error.error_regex):
            ours(params, **given.kwargs)
    else:
        with warnings.catch_warnings(), pytest.raises(error.error_type, match=error.error_regex):
            ours(params, **given.kwargs)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fused": True, "foreach": True}, RuntimeError, "`fused` and `foreach` cannot be `True` together."),
        ({"fused": True, "differentiable": True}, RuntimeError, "`fused` does not support `differentiable`"),
        ({"lr": -1.0, "params": []}, ValueError, "Invalid learning rate: -1.0"),  # before the parameters are looked at
        ({"weight_decay": -0.1, "params": {}}, ValueError, "Invalid weight_decay value: -0.1"),
        ({"params": []}, ValueError, "optimizer got an empty parameter list"),
        ({"params": [{"params": {torch.zeros(1)}}]}, TypeError, "the ordering of tensors in sets will change"),
        ({"params": [torch.ones(1, requires_grad=True) * 2]}, ValueError, "can't optimize a non-leaf Tensor"),
        ({"params": ["w"]}, TypeError, "optimizer can only optimize Tensors, but one of the params is str"),
    ],
)
def test_refusals_and_their_order_are_torchs(name, options, error, message):
    if name in ("adadelta", "rmsprop", "nadam") and "fused" in options:
        return  # torch's have no such switch; here it is a wish for an engine
    for make in PAIRS[name]:
        with pytest.raises(error, match=message):
            make(**{"params": [nn.Parameter(torch.zeros(1))], **options})


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
