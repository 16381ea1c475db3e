"""Each check finds the fault that was planted, names its layer, and leaves sound models and all state alone."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import thalweg
from thalweg.diagnosis import Diagnosis, Finding
from thalweg.diagnosis.observe import observe
from thalweg.diagnosis.sharpness import curvature
from thalweg.diagnosis.start_loss import best_constant
from thalweg.initialization import initialize, output_bias_from, too_large_

CLASSES = 10
QUICK = {"curvature_steps": 0, "noise_batches": 0, "range_steps": 0}
cross_entropy, mse = functional.cross_entropy, functional.mse_loss


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.one, self.norm1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.two, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x):
        return functional.relu(x + self.norm2(self.two(functional.relu(self.norm1(self.one(x))))))


class Recurrent(nn.Module):
    def __init__(self, kind=nn.LSTM, **options):
        super().__init__()
        self.rnn, self.out = kind(6, 24, batch_first=True, **options), nn.Linear(24, CLASSES)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


class Encoder(nn.Module):
    def __init__(self, first=True, norm_first=False):
        super().__init__()
        self.first, self.embed = first, nn.Embedding(30, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.1, batch_first=first, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(32, CLASSES)

    def forward(self, x):
        x = self.embed(x if self.first else x.T)
        return self.out(self.encoder(x).mean(1 if self.first else 0))


class Sequence(Encoder):
    """Gives an output a position, classes second, as cross-entropy takes them."""

    def forward(self, x):
        return self.out(self.encoder(self.embed(x))).transpose(1, 2)


def mlp(depth=3, width=64, activation=nn.ReLU, ins=20, outs=CLASSES):
    layers = []
    for i in range(depth):
        layers += [nn.Linear(ins if i == 0 else width, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, outs))


def cnn(inplace=False):
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace),
        nn.MaxPool2d(2),
        nn.Dropout2d(0.5),
        nn.Conv2d(16, 32, 3, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace),
        nn.Flatten(),
        nn.LazyLinear(CLASSES),
    )


def resnet():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *(Block(16) for _ in range(4)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )


def zero_gamma():
    net = resnet()
    for module in net.modules():
        if isinstance(module, Block):
            nn.init.zeros_(module.norm2.weight)
    return net


VECTORS, IMAGES, SERIES = (20,), (3, 10, 10), (12, 6)
SOUND = {
    "mlp": (mlp, VECTORS),
    "deep mlp": (lambda: mlp(12), VECTORS),
    "tanh": (lambda: mlp(4, activation=nn.Tanh), VECTORS),
    "in place": (lambda: mlp(3, activation=lambda: nn.ReLU(inplace=True)), VECTORS),
    "cnn": (cnn, IMAGES),
    "cnn in place": (lambda: cnn(True), IMAGES),
    "resnet": (resnet, IMAGES),
    "lstm": (Recurrent, SERIES),
    "lstm of two layers": (lambda: Recurrent(num_layers=2, dropout=0.2), SERIES),
    "gru": (lambda: Recurrent(nn.GRU), SERIES),
    "rnn": (lambda: Recurrent(nn.RNN), SERIES),
    "transformer": (Encoder, None),
    "transformer, sequence first": (lambda: Encoder(first=False), None),
    "transformer, norms first": (lambda: Encoder(norm_first=True), None),
}


def batch_for(shape, examples=64):
    x = torch.randn(examples, *shape) if shape else torch.randint(30, (examples, 12))
    return x, torch.arange(examples) % CLASSES


def planted(net, shape=VECTORS, loss=cross_entropy, batch=None, **options):
    options = QUICK | options
    return thalweg.diagnose(net, batch or batch_for(shape), loss, **options)


def found(diagnosis, kind):
    return [f for f in diagnosis if f.kind == kind]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SOUND)
def test_sound_models_give_notes_at_most(name, seed):
    torch.manual_seed(seed)
    build, shape = SOUND[name]
    net, batch = build(), batch_for(shape)
    net(batch[0])
    initialize(net)
    measured = {"curvature_steps": 3, "noise_batches": 4, "range_steps": 32} if seed == 0 else {}
    diagnosis = planted(net, batch=batch, **measured)
    assert diagnosis.worst in (None, "note"), str(diagnosis)
    assert not measured or {"negative curvature", "gradient noise scale", "learning rate"} <= {
        f.kind for f in diagnosis
    }


def test_a_sequence_of_outputs_and_branches_that_start_at_zero_are_sound():
    torch.manual_seed(0)
    batch = (torch.randint(30, (32, 12)), torch.arange(32 * 12).reshape(32, 12) % CLASSES)
    net = Sequence()
    initialize(net)
    assert planted(net, batch=batch).worst in (None, "note")
    net = zero_gamma()
    assert planted(net, IMAGES).worst in (None, "note")
    net = mlp()
    initialize(net)
    nn.init.zeros_(net[-1].weight)
    assert planted(net).worst == "note"


@pytest.mark.parametrize("which", ["all", "pair", "conv", "grouped", "normalized", "lstm"])
def test_symmetric_units(which):
    torch.manual_seed(0)
    net, shape, layer, alike = mlp(), VECTORS, "2", 64
    if which == "all":
        nn.init.constant_(net[2].weight, 0.1), nn.init.zeros_(net[2].bias), nn.init.constant_(net[4].weight, 0.1)
    elif which == "pair":
        with torch.no_grad():
            net[2].weight[5], net[2].bias[5] = net[2].weight[9], net[2].bias[9]
            net[4].weight[:, 5] = net[4].weight[:, 9]
        alike = 2
    elif which == "lstm":
        net, shape, layer, alike = Recurrent(), SERIES, "rnn", 24
        for p in net.parameters():
            nn.init.constant_(p, 0.1)
    else:
        groups = 4 if which == "grouped" else 1
        norm = nn.BatchNorm2d(8) if which == "normalized" else nn.Identity()
        conv = nn.Conv2d(8, 8, 3, groups=groups)
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), conv, norm, nn.ReLU(), nn.Flatten(), nn.Linear(288, CLASSES))
        shape, layer, alike = IMAGES, "2", 2
        with torch.no_grad():
            conv.weight[1], conv.bias[1] = conv.weight[0], conv.bias[0]
            net[6].weight[:, 36:72] = net[6].weight[:, :36]
    (finding,) = found(planted(net, shape), "symmetric units")
    assert (finding.severity, finding.layer, finding.figure) == ("error", layer, alike)


def test_units_equal_only_in_what_comes_in_start_as_one_and_part():
    torch.manual_seed(0)
    net = mlp()
    nn.init.constant_(net[2].weight, 0.1), nn.init.zeros_(net[2].bias)
    (finding,) = found(planted(net), "symmetric units")
    assert (finding.severity, finding.layer, finding.figure, finding.threshold) == ("warning", "2", 64, 32)
    net = mlp()
    with torch.no_grad():
        net[2].weight[5], net[2].bias[5] = net[2].weight[9], net[2].bias[9]
    assert not found(planted(net), "symmetric units")
    nn.init.zeros_(net[4].weight)
    assert "4" not in {f.layer for f in found(planted(net), "symmetric units")}
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, CLASSES))
    nn.init.constant_(net[0].weight, 0.1), nn.init.zeros_(net[0].bias), nn.init.constant_(net[4].weight, 0.1)
    assert found(planted(net, IMAGES), "symmetric units")[0].severity == "error"
    with torch.no_grad():
        net[1].weight.copy_(torch.linspace(0.5, 1.5, 8))
    assert found(planted(net, IMAGES), "symmetric units")[0].severity == "warning"


@pytest.mark.parametrize(("factor", "word"), [(1e-4, "vanishing"), (1e4, "exploding")])
@pytest.mark.parametrize("at", [4, 8])
def test_scale_over_depth_is_named_where_it_begins(factor, word, at):
    torch.manual_seed(0)
    net = mlp(6)
    initialize(net)
    with torch.no_grad():
        net[at].weight.mul_(factor)
    diagnosis = planted(net)
    (signal,), (gradient,) = found(diagnosis, f"{word} signal"), found(diagnosis, f"{word} gradient")
    assert signal.layer == str(at)
    assert (signal.figure < 1e-3) == (gradient.figure < 1e-3) == (word == "vanishing")
    assert gradient.layer == str(at - 2)


@pytest.mark.parametrize("kind", ["signal", "gradient"])
def test_the_fix_of_a_vanishing_scale_corrects_it(kind):
    torch.manual_seed(0)
    net, (x, y) = mlp(8, activation=nn.Sigmoid), batch_for(VECTORS)
    (finding,) = found(planted(net, batch=(x, y)), f"vanishing {kind}")
    exec(finding.fix_code, {"model": net, "inputs": x, "target": y, "loss": cross_entropy, "thalweg": thalweg})
    assert not found(planted(net, batch=(x, y)), f"vanishing {kind}")


def test_a_first_layer_that_gives_all_examples_the_same_is_an_error():
    net = mlp()
    nn.init.zeros_(net[0].weight)
    (finding,) = found(planted(net), "vanishing signal")
    assert (finding.severity, finding.layer) == ("error", "0")


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(("share", "severity"), [(1.0, "error"), (0.75, "warning"), (0.25, None)])
def test_dead_units(share, severity, inplace):
    torch.manual_seed(0)
    net = mlp(activation=lambda: nn.ReLU(inplace))
    initialize(net)
    with torch.no_grad():
        net[2].bias[: int(share * 64)] = -100
    faults = found(planted(net), "dead units")[:1]  # what follows a layer of zeros is zero too
    assert [(f.severity, f.layer, f.figure) for f in faults] == ([(severity, "2", share)] if severity else [])


def test_dead_channels_behind_pooling_and_normalization():
    torch.manual_seed(0)
    net = cnn()
    net(batch_for(IMAGES)[0])
    nn.init.constant_(net[1].bias, -100.0)
    finding, *_ = found(planted(net, IMAGES), "dead units")
    assert (finding.severity, finding.layer) == ("error", "0")


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid])
@pytest.mark.parametrize(("share", "severity"), [(1.0, "error"), (0.75, "warning"), (0.25, None)])
def test_saturated_units(activation, share, severity):
    torch.manual_seed(0)
    net = mlp(activation=activation)
    with torch.no_grad():
        net[2].bias[: int(share * 64)] = 100
    faults = found(planted(net), "saturated units")
    assert [(f.severity, f.layer, f.figure) for f in faults] == ([(severity, "2", share)] if severity else [])


def test_saturated_recurrent_units():
    net = Recurrent(nn.RNN)
    nn.init.constant_(net.rnn.bias_ih_l0, 100.0)
    assert [f.layer for f in found(planted(net, SERIES), "saturated units")] == ["rnn"]


def test_parameters_that_do_not_train():
    for held, severity in (((0,), "warning"), ((2,), "warning"), ((0, 2), "note"), ((0, 2, 4), "note")):
        net = mlp()
        for i in held:
            net[i].requires_grad_(False)
        (frozen,) = found(planted(net), "frozen parameters")
        assert (frozen.severity, frozen.layer, frozen.figure) == (severity, str(held[0]), 2 * len(held))
    net.requires_grad_(False)
    (frozen,) = found(thalweg.diagnose(net, batch_for(VECTORS), cross_entropy), "frozen parameters")
    assert frozen.severity == "error"
    net = mlp()
    net[0].spare = nn.Linear(2, 2)
    (unused,) = found(planted(net), "unused parameters")
    assert (unused.severity, unused.layer, unused.figure) == ("warning", "0.spare", 2)


def test_a_bias_before_batch_norm():
    net = nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))
    (finding,) = found(planted(net), "redundant bias")
    assert (finding.severity, finding.layer, finding.figure) == ("note", "0", 8)
    exec(finding.fix_code, {"model": net})
    assert not found(planted(net), "redundant bias")
    net[0] = nn.Linear(20, 8)

    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm, self.b = nn.Linear(20, 8), nn.BatchNorm1d(8), nn.Linear(8, CLASSES)

        def forward(self, x):
            a = self.a(x)
            return self.b(self.norm(a) + a)

    assert not found(planted(Beside()), "redundant bias")
    net[1].eval()
    assert not found(planted(net), "redundant bias")


def test_start_loss_against_the_best_constant():
    torch.manual_seed(0)
    x, y = torch.randn(200, 20), 50 + torch.randn(200, 1)
    net = mlp(outs=1)
    (finding,) = found(planted(net, batch=(x, y), loss=mse), "high start loss")
    assert (finding.severity, finding.layer) == ("warning", "6")
    assert "output_bias_from" in finding.fix_code
    exec(finding.fix_code, {"model": net, "target": y, "thalweg": thalweg})
    assert not found(planted(net, batch=(x, y), loss=mse), "high start loss")
    net = mlp()
    with torch.no_grad():
        net[-1].weight.mul_(500)
    (finding,) = found(planted(net), "high start loss")
    assert "weight" in finding.fix_code
    assert finding.figure > finding.threshold == 4


def constant_loss(net, x, y, loss):
    return best_constant(observe(net, (x, y), loss)).best


def test_the_best_constant_is_the_entropy_or_the_variance_or_is_not_found():
    torch.manual_seed(0)
    x, y = torch.randn(1000, 20), torch.randint(CLASSES, (1000,))
    y[:700] = 3
    bias = output_bias_from(y, "classification", CLASSES)
    entropy = -(bias.exp() * bias).sum().item()
    assert constant_loss(mlp(), x, y[torch.randperm(1000)], cross_entropy) == pytest.approx(entropy, rel=0.05)
    t = 7 * torch.randn(1000, 3) + 4
    variance = t.var(0, correction=0).mean().item()
    assert constant_loss(mlp(outs=3), x, t, mse) == pytest.approx(variance, rel=0.02)
    net = nn.Sequential(mlp(), nn.LogSoftmax(1))
    assert best_constant(observe(net, (x, y), lambda out, t: (out * 3).sum())) is None  # falls without end
    assert best_constant(observe(mlp(), (x, 0 * y), cross_entropy)) is None


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e4, 1e8])
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_the_best_constant_is_found_at_any_scale(scale, shift):
    torch.manual_seed(0)
    x, t = torch.randn(400, 20), scale * (torch.randn(400, 2) + shift)
    for loss, best in (
        (mse, t.var(0, correction=0).mean()),
        (functional.l1_loss, (t - t.median(0).values).abs().mean()),
    ):
        assert constant_loss(mlp(outs=2), x, t, loss) == pytest.approx(best.item(), rel=0.05)


def test_a_constant_does_not_learn_which_classes_a_batch_happens_to_have():
    torch.manual_seed(0)
    for draws in (torch.randint(1000, (64,)), torch.arange(64) * 15):
        assert constant_loss(mlp(outs=1000), torch.randn(64, 20), draws, cross_entropy) == pytest.approx(
            math.log(1000), rel=5e-3
        )


@pytest.mark.parametrize("where", ["inputs", "parameter", "output", "loss", "gradient"])
def test_not_finite(where):
    net, (x, y), loss, layer = mlp(), batch_for(VECTORS), cross_entropy, ""
    if where == "inputs":
        x[3, 2] = math.nan
    elif where == "parameter":
        nn.init.constant_(net[2].bias, math.inf)
        layer = "2.bias"
    elif where == "output":
        net[2].weight.data.mul_(1e30), net[0].weight.data.mul_(1e30)
        layer = "2"
    elif where == "loss":

        def loss(output, target):
            return (output * 0).sum().log() - math.inf
    else:

        def loss(output, target):
            return (output * 0).square().sum().sqrt()

        layer = "0.weight"
    (finding,) = found(planted(net, batch=(x, y), loss=loss), "not finite")
    assert (finding.severity, finding.layer) == ("error", layer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chaos(dtype):
    torch.manual_seed(0)
    net = mlp(20, activation=nn.Tanh).to(dtype)
    for module in net:
        if isinstance(module, nn.Linear):
            too_large_(module.weight)
            module.weight.data.mul_(3)
    x, y = batch_for(VECTORS)
    (finding,) = found(planted(net, batch=(x.to(dtype), y)), "chaos")
    assert finding.severity == "warning"
    assert finding.figure > 1e3
    assert 4 < int(finding.layer) < 40


def test_curvature_is_that_of_the_exact_hessian_and_may_be_missing():
    torch.manual_seed(0)
    net = nn.Linear(5, 1)
    x, y = torch.randn(50, 5), torch.randn(50, 1)
    wide = torch.cat([x, torch.ones(50, 1)], dim=1)
    largest = torch.linalg.eigvalsh(2 * wide.T @ wide / 50)[-1].item()
    note, later = found(thalweg.diagnose(net, (x, y), mse), "largest stable lr")
    assert note.severity == "note"
    assert later.figure == pytest.approx(note.figure, rel=1e-3)  # a quadratic's curvature is the same everywhere
    assert note.figure == pytest.approx(2 / largest, rel=1e-3)

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            raise RuntimeError("no second") if gradient.requires_grad else None
            return gradient * 2

    assert isinstance(curvature(observe(net, (x, y), mse), lambda o, t: Once.apply(mse(o, t)) ** 2), str)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["cnn in place", "lstm of two layers", "transformer"])
def test_nothing_is_changed(name, training):
    torch.manual_seed(0)
    build, shape = SOUND[name]
    net, (x, y) = build(), batch_for(shape)
    net(x)
    cross_entropy(net(x), y).backward()
    net.train(training)
    next(m for m in net.modules() if isinstance(m, (nn.BatchNorm2d, nn.LSTM, nn.LayerNorm))).train(not training)
    state = copy.deepcopy(net.state_dict())
    grads = {n: p.grad.clone() for n, p in net.named_parameters()}
    modes = [m.training for m in net.modules()]
    buffers, draws, x0 = [id(b) for b in net.buffers()], torch.get_rng_state(), x.clone()
    options = {"curvature_steps": 2, "noise_batches": 4, "range_steps": 32}
    first = thalweg.diagnose(net, (x, y), cross_entropy, **options)
    assert all(torch.equal(v, state[n]) for n, v in net.state_dict().items())
    assert all(torch.equal(p.grad, grads[n]) and p.requires_grad for n, p in net.named_parameters())
    assert [m.training for m in net.modules()] == modes
    assert [id(b) for b in net.buffers()] == buffers
    assert torch.equal(torch.get_rng_state(), draws)
    assert torch.equal(x, x0)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert thalweg.diagnose(net, (x, y), cross_entropy, **options) == first
    with pytest.raises(ValueError, match="the loss raises"):
        thalweg.diagnose(net, (x, y[:3]), cross_entropy)
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), draws)


@pytest.mark.parametrize(
    ("batch", "loss", "message"),
    [
        (torch.randn(8, 20), cross_entropy, "the batch is not a pair: pass"),
        ((torch.randn(8, 19), torch.zeros(8).long()), cross_entropy, "the batch does not fit the model"),
        ((torch.randn(8, 20), torch.zeros(7).long()), cross_entropy, "the loss raises on the model's output"),
        ((torch.randn(8, 20), torch.randn(8, 10)), lambda o, t: o - t, "the loss is not a scalar tensor"),
        ((torch.randn(8, 20), torch.randn(8, 10)), lambda o, t: 3.0, "the loss is not a scalar tensor (float)"),
        ((torch.randn(8, 20), None), lambda o, t: o.detach().sum(), "the loss does not depend on the parameters"),
    ],
)
def test_what_the_user_can_mend_is_one_line(batch, loss, message):
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        thalweg.diagnose(mlp(), batch, loss)
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_layer_without_a_shape_is_refused():
    with pytest.raises(ValueError, match="9.weight has no shape yet: run a batch through"):
        thalweg.diagnose(cnn(), batch_for(IMAGES), cross_entropy)
    with pytest.raises(ValueError, match="curvature_steps is -1"):
        thalweg.diagnose(mlp(), batch_for(VECTORS), cross_entropy, curvature_steps=-1)


def test_several_inputs_odd_outputs_and_few_examples():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Bilinear(3, 4, 2)

        def forward(self, x, z):
            return {"y": self.a(x, z)}

    batch = ((torch.randn(1, 3), torch.randn(1, 4)), torch.zeros(1, dtype=torch.long))
    diagnosis = thalweg.diagnose(Two(), batch, lambda out, t: cross_entropy(out["y"], t))
    assert diagnosis.worst == "note"
    assert found(diagnosis, "few examples")
    net, batch = mlp(), batch_for(VECTORS, 2)
    with torch.no_grad():
        thalweg.diagnose(net, batch, cross_entropy)
    with torch.inference_mode():
        thalweg.diagnose(net, batch, cross_entropy)


def test_sparse_gradients_and_a_model_too_large_for_curvature(monkeypatch):
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.out = nn.Embedding(30, 8, sparse=True), nn.Linear(8, CLASSES)

        def forward(self, x):
            return self.out(self.embed(x).mean(1))

    batch = batch_for(None)
    assert thalweg.diagnose(Bag(), batch, cross_entropy).worst == "note"
    monkeypatch.setattr("thalweg.diagnosis.sharpness.MOST_BYTES", 1000)
    for note in found(thalweg.diagnose(mlp(), batch_for(VECTORS), cross_entropy), "curvature"):
        assert "pass fewer curvature_steps" in note.meaning


def test_findings_come_gravest_first_and_print_as_a_table():
    notes = [
        Finding("a", "note", "x", 1.0, "m"),
        Finding("b", "error", "", 0.5, "m", "fix()"),
        Finding("c", "note", "", 2.0, "m"),
    ]
    diagnosis = Diagnosis(tuple(notes))
    assert [f.kind for f in diagnosis] == ["b", "a", "c"]
    assert str(diagnosis).splitlines()[-1] == "b: fix()"
    assert str(Diagnosis(())) == "no problem was found"
    assert Diagnosis(()).worst is None
