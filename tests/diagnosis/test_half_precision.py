"""Overflows of half-precision types are named by layer, the line printed corrects them, and sound models are silent."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional

import thalweg
from benchmarks.sound_models import SOUND, mlp, vectors
from tests.diagnosis.test_diagnose import QUICK

LIMIT = torch.finfo(torch.float16).max
OVERFLOW, UNDERFLOW = "half-precision overflow", "half-precision underflow"


def as_type(value, dtype):
    if isinstance(value, tuple):
        return tuple(as_type(v, dtype) for v in value)
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def look(names):
    return thalweg.diagnose(names["model"], (names["inputs"], names["target"]), names["loss"], **QUICK)


def names_of(model, inputs, target, loss=functional.cross_entropy):
    return {"model": model, "inputs": inputs, "target": target, "loss": loss, "torch": torch, "thalweg": thalweg}


def of(found, kind):
    return [f for f in found if f.kind == kind]


class Part(nn.Module):
    """A model of float32 with a part that is cast to float16 and back."""

    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(20, 64), nn.Linear(64, 10)
        self.part = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)).half()

    def forward(self, x):
        return self.out(self.part(self.inner(x).relu().half()).float())


class Squared(nn.Module):
    """Divides by a root mean square that it computes in the type of its inputs."""

    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(20, 64), nn.Linear(64, 10)

    def forward(self, x):
        h = 400 * self.inner(x)
        return self.out(h * (h * h).mean(1, keepdim=True).rsqrt())


class Scores(nn.Module):
    """Attention whose scores are computed without a scale, and masked by a number that float16 does not hold."""

    def __init__(self, scale):
        super().__init__()
        self.scale, self.query, self.key, self.out = scale, nn.Linear(6, 32), nn.Linear(6, 32), nn.Linear(6, 10)

    def forward(self, x):
        mask = torch.full((x.shape[1],) * 2, -1e9).triu(1).to(x.dtype)
        scores = self.scale * self.query(x) @ self.key(x).transpose(1, 2) + mask
        return self.out((scores.softmax(-1) @ x).mean(1))


class Autocast(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        with torch.autocast("cpu", torch.float16):
            return self.net(x)


def faults(kind):
    torch.manual_seed(0)
    x, y = vectors()
    net = mlp()
    if kind == "weights":
        net[0].weight.data.mul_(1e3), net[2].weight.data.mul_(1e3)
        return names_of(net.half(), x.half(), y), "2"
    if kind == "part":
        net = Part()
        net.part[0].weight.data.mul_(1e3), net.part[2].weight.data.mul_(1e3)
        return names_of(net, x, y), "part.2"
    if kind == "autocast":
        net[0].weight.data.mul_(1e3), net[2].weight.data.mul_(1e3)
        return names_of(Autocast(net), x, y), "net.2"
    if kind == "function":
        return names_of(Squared().half(), x.half(), y), "inner"
    if kind == "scores":
        return names_of(Scores(1e5).half(), torch.randn(16, 5, 6).half(), torch.arange(16) % 10), "query"
    if kind == "wide sum":
        net = nn.Sequential(nn.Linear(5000, 64), nn.ReLU(), nn.Linear(64, 10))
        nn.init.ones_(net[0].weight)
        return names_of(net.half(), 20 + torch.randn(32, 5000).half(), torch.arange(32) % 10), "0"
    if kind == "gradient":
        loss = functional.cross_entropy
        return names_of(net.half(), x.half(), y, lambda output, target: 1e7 * loss(output.float(), target)), "6"
    if kind == "loss in half":
        return names_of(net, x, y, lambda output, target: functional.cross_entropy((output * 1e7).half(), target)), ""
    return names_of(net.half(), x.half(), torch.randn(64, 10).half(), lambda o, t: (o - 300 * t).square().sum()), ""


KINDS = ("weights", "part", "autocast", "function", "scores", "wide sum", "gradient", "loss")


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_layer_that_overflows_is_named_and_its_line_corrects_it(kind):
    names, layer = faults(kind)
    (hit,) = of(look(names), OVERFLOW)
    assert (hit.layer, hit.threshold) == (layer, LIMIT)
    assert hit.figure > LIMIT
    assert "65,504" in hit.meaning
    assert hit.severity == ("warning" if kind == "function" else "error")
    exec(hit.fix_code, names)
    assert not of(look(names), OVERFLOW), hit.fix_code


def test_a_cast_in_the_loss_is_named_and_left_to_its_code():
    names, _ = faults("loss in half")
    (hit,) = of(look(names), OVERFLOW)
    assert (hit.layer, hit.fix_code) == ("", "")
    assert hit.meaning.startswith("half in the loss leaves the range of float16")


def test_attention_is_judged_in_a_type_that_holds_its_scores():
    torch.manual_seed(0)
    case = SOUND["transformer"]()
    case.model.encoder.layers[0].self_attn.in_proj_weight.data.mul_(3e3)
    found = look(names_of(case.model.half(), case.inputs, case.target))
    assert all(f.figure == f.figure for f in found)
    assert of(found, "saturated attention")


def test_the_figure_is_what_the_layer_gives_in_float32():
    names, _ = faults("wide sum")
    (hit,) = of(look(names), OVERFLOW)
    wide = functional.linear(names["inputs"].float(), *(p.float() for p in names["model"][0].parameters()))
    assert hit.figure == pytest.approx(float(wide.detach().abs().max()), rel=1e-3)


def test_autocast_around_a_diagnosis_counts_too():
    torch.manual_seed(0)
    net, (x, y) = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10)), vectors()
    names = names_of(net, x * 1e6, y)
    with torch.autocast("cpu", torch.float16):
        assert of(look(names), OVERFLOW)
    assert not of(look(names), OVERFLOW)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm", "transformer", "BERT", "GPT-2", "U-Net, segmentation", "mixer"])
def test_sound_models_in_half_precision_are_not_warned_of(name, dtype):
    torch.manual_seed(0)
    case = SOUND[name]()
    names = names_of(case.model.to(dtype), as_type(case.inputs, dtype), as_type(case.target, dtype), case.loss)
    assert not [f for f in look(names) if f.severity != "note"]


def test_a_mask_that_becomes_infinite_is_no_overflow():
    torch.manual_seed(0)
    names = names_of(Scores(0.2).half(), torch.randn(16, 5, 6).half(), torch.arange(16) % 10)
    assert not of(look(names), OVERFLOW)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_same_numbers_in_a_type_of_more_range_do_not_overflow(dtype):
    for kind in ("weights", "wide sum", "loss"):
        names, _ = faults(kind)
        names["model"].to(dtype)
        names["inputs"], names["target"] = as_type(names["inputs"], dtype), as_type(names["target"], dtype)
        assert not [f for f in look(names) if f.kind in (OVERFLOW, "not finite")]


def test_a_model_of_float32_that_float16_would_not_hold_is_noted():
    torch.manual_seed(0)
    net, (x, y) = mlp(), vectors()
    assert not of(look(names_of(net, x, y)), "beyond float16")
    net[0].weight.data.mul_(1e6)
    (note,) = of(look(names_of(net, x, y)), "beyond float16")
    assert (note.severity, note.layer, note.threshold) == ("note", "0", LIMIT)
    assert note.figure == pytest.approx(float(net[0](x).detach().abs().max()))


def test_gradients_that_float16_rounds_to_zero_and_a_larger_loss_keeps(monkeypatch):
    torch.manual_seed(0)
    x, y = vectors()

    def times(factor):
        return names_of(mlp().half(), x.half(), y, lambda o, t: factor * functional.cross_entropy(o.float(), t))

    assert not of(look(times(1.0)), UNDERFLOW)
    (hit,) = of(look(times(1e-6)), UNDERFLOW)
    assert hit.figure > hit.threshold
    scales = []
    monkeypatch.setattr(torch.amp, "GradScaler", lambda init_scale: scales.append(init_scale))  # off without a GPU
    exec(hit.fix_code, {"torch": torch})
    assert not of(look(times(1e-6 * scales[0])), UNDERFLOW)


@pytest.mark.parametrize("where", ["inputs", "parameter"])
def test_numbers_that_were_cast_to_infinity_are_told_to_be_scaled_before(where):
    net, (x, y) = mlp(), vectors()
    if where == "inputs":
        x = 1e6 * x
    else:
        nn.init.constant_(net[2].bias, 1e5)
    (hit,) = of(look(names_of(net.half(), x.half(), y)), "not finite")
    assert "float16 ends at 65,504" in hit.meaning


def test_a_diagnosis_of_an_overflow_is_strict_json_and_leaves_the_model_alone():
    for kind in KINDS:
        names, _ = faults(kind)
        before = {n: p.detach().clone() for n, p in names["model"].state_dict().items()}
        found = thalweg.diagnose(names["model"], (names["inputs"], names["target"]), names["loss"])
        json.dumps(found.as_dict(), allow_nan=False)
        after = names["model"].state_dict()
        assert all(torch.equal(before[n], after[n]) and before[n].dtype is after[n].dtype for n in before)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in names["model"].modules())
