"""Twenty faults, each planted in a sound model, are found and named by layer; those that can be fixed are."""

import copy
import json

import pytest
import torch
from torch import nn
from torch.nn import functional

import thalweg
from tests.diagnosis.test_diagnose import CLASSES, IMAGES, QUICK, SERIES, VECTORS, Recurrent, batch_for, cnn, mlp
from thalweg.diagnosis import Diagnosis, Finding
from thalweg.diagnosis.fixes import apply_fixes
from thalweg.initialization import initialize, too_large_
from thalweg.normalization import BatchNorm


def sound(kind):
    torch.manual_seed(0)
    build, shape = {
        "mlp": (mlp, VECTORS),
        "deep": (lambda: mlp(12), VECTORS),
        "tanh": (lambda: mlp(20, activation=nn.Tanh), VECTORS),
        "lstm": (Recurrent, SERIES),
        "cnn": (cnn, IMAGES),
        "biased cnn": (biased_cnn, IMAGES),
        "regression": (lambda: mlp(outs=1), VECTORS),
    }[kind]
    net, batch = build(), batch_for(shape)
    net(batch[0])
    initialize(net)
    if kind == "regression":
        net[6].weight.data.mul_(0.1)
        return net, (batch[0], batch[0][:, :1]), functional.mse_loss
    return net, batch, functional.cross_entropy


def biased_cnn():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, CLASSES, bias=False)
    )


@torch.no_grad()
def tie(net):
    net[2].weight[5], net[2].bias[5] = net[2].weight[9], net[2].bias[9]
    net[4].weight[:, 5] = net[4].weight[:, 9]


@torch.no_grad()
def chaotic(net):
    for module in net:
        if isinstance(module, nn.Linear):
            too_large_(module.weight)


def close(gate):
    def plant(net):
        net.rnn.bias_ih_l0.data[gate * 24 : (gate + 1) * 24] = -100

    return plant


def fill(name, value):
    return lambda net: nn.init.constant_(net.get_parameter(name), value)


def times(name, factor):
    return lambda net: net.get_parameter(name).data.mul_(factor)


FAULTS = {
    "a dead layer": ("mlp", fill("2.bias", -100.0), "dead units", "2"),
    "dead channels behind batch norm": ("cnn", fill("1.bias", -100.0), "dead units", "0"),
    "two tied units": ("mlp", tie, "symmetric units", "2"),
    "a constant layer": (
        "mlp",
        lambda net: (fill("2.weight", 0.1)(net), fill("4.weight", 0.1)(net)),
        "symmetric units",
        "2",
    ),
    "a first layer of zeros": ("mlp", fill("0.weight", 0.0), "vanishing signal", "0"),
    "a layer of zeros within": ("deep", fill("8.weight", 0.0), "vanishing signal", "8"),
    "exploding scale": ("deep", times("8.weight", 1e4), "exploding signal", "8"),
    "vanishing scale": ("deep", times("8.weight", 1e-4), "vanishing signal", "8"),
    "a vanishing gradient": ("deep", times("8.weight", 1e-4), "vanishing gradient", "6"),
    "saturated tanh": ("tanh", fill("4.bias", 100.0), "saturated units", "4"),
    "chaos": ("tanh", chaotic, "chaos", None),
    "a wrong output bias": ("regression", fill("6.bias", 50.0), "high start loss", "6"),
    "outputs too large": ("mlp", times("6.weight", 100.0), "high start loss", "6"),
    "a redundant bias": ("biased cnn", lambda net: None, "redundant bias", "0"),
    "a frozen layer": ("mlp", lambda net: net[2].requires_grad_(False), "frozen parameters", "2"),
    "everything frozen": ("mlp", lambda net: net.requires_grad_(False), "frozen parameters", ""),
    "a part that is not used": (
        "mlp",
        lambda net: net[2].add_module("spare", nn.Linear(2, 2)),
        "unused parameters",
        "2.spare",
    ),
    "a gate that is shut": ("lstm", close(0), "saturated gates", "rnn"),
    "no memory": ("lstm", close(1), "saturated gates", "rnn"),
    "NaN in a parameter": ("mlp", fill("4.bias", float("nan")), "not finite", "4.bias"),
}
SAFE = {
    "a dead layer",
    "a constant layer",
    "a first layer of zeros",
    "a layer of zeros within",
    "exploding scale",
    "vanishing scale",
    "a vanishing gradient",
    "saturated tanh",
    "chaos",
    "a wrong output bias",
    "a redundant bias",
}


def look(net, batch, loss, **options):
    return thalweg.diagnose(net, batch, loss, **(QUICK | options))


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_named_and_fixed_where_that_loses_nothing(fault):
    kind, plant, name, layer = FAULTS[fault]
    net, batch, loss = sound(kind)
    before = look(net, batch, loss)
    assert name == "redundant bias" or not [f for f in before if f.kind == name]
    plant(net)
    planted = [f for f in look(net, batch, loss) if f.kind == name]
    assert planted
    assert layer is None or planted[0].layer == layer
    fixed = look(net, batch, loss, fix=True)
    if fault in SAFE:
        assert (name, layer) in [(f.kind, f.layer) for f in fixed.fixed] or not [f for f in fixed if f.kind == name]
        assert fixed.worst in (None, "note"), str(fixed)
        assert fixed.fixed
    else:
        assert [f for f in fixed if f.kind == name]


def test_a_bias_left_out_changes_no_output_neither_in_training_nor_after():
    net, (x, y), loss = sound("biased cnn")
    nn.init.normal_(net[0].bias)
    for _ in range(3):
        net(x)
    trained, shown = net(x).detach(), net.eval()(x).detach()
    assert look(net, (x, y), loss, fix=True).fixed[0].kind == "redundant bias"
    assert net[0].bias is None
    torch.testing.assert_close(net(x), shown)
    torch.testing.assert_close(net.train()(x), trained)


def test_what_does_not_help_is_taken_back_and_what_raises_too():
    net = nn.Linear(2, 2)
    start = copy.deepcopy(net.state_dict())
    weight = net.weight

    def worse(model):
        nn.init.zeros_(model.weight)
        model.register_parameter("bias", None)

    def raising(model):
        nn.init.zeros_(model.weight)
        raise ValueError("no")

    findings = [Finding("a", "error", "", 1.0, "m", "f", worse), Finding("b", "error", "", 1.0, "m", "f", raising)]
    assert apply_fixes(net, lambda: findings) == ()
    assert net.weight is weight
    assert all(torch.equal(v, start[k]) for k, v in net.state_dict().items())


def test_a_diagnosis_as_plain_values_is_strict_json_and_says_what_is_safe():
    net, batch, loss = sound("biased cnn")
    nn.init.zeros_(net[4].weight)
    report = json.loads(json.dumps(thalweg.diagnose(net, batch, loss, range_steps=32).as_dict(), allow_nan=False))
    assert {f["kind"]: f["safe"] for f in report["findings"]}["redundant bias"]
    assert [p["layer"] for p in report["profile"]] == ["0", "4"]
    assert len(report["range_test"]["lrs"]) == len(report["range_test"]["changes"]) <= 32
    assert Diagnosis(()).as_dict()["range_test"] is None


def test_units_of_a_normalized_sequence_are_its_last_dimension():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), BatchNorm(8, dim=-1), nn.ReLU(), nn.Linear(8, CLASSES))
    nn.init.constant_(net[1].bias, -100.0)
    batch = (torch.randn(32, 5, 6), torch.randint(CLASSES, (32, 5)))
    found = look(net, batch, lambda y, t: functional.cross_entropy(y.movedim(-1, 1), t))
    assert ("dead units", "0", 1.0) in [(f.kind, f.layer, f.figure) for f in found]
    net[0].bias = None
    nn.init.zeros_(net[1].bias)
    assert look(net, batch, lambda y, t: functional.cross_entropy(y.movedim(-1, 1), t)).worst in (None, "note")
