"""Gains keep the mean square, and the nonlinearity after each layer is found, traced or watched."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from thalweg.initialization.following import following
from thalweg.initialization.gains import FUNCTIONS, gain_of, gain_of_function, name_of
from thalweg.tensors.graph import NotTraceable


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if "sigmoid" not in n])
def test_a_gain_keeps_the_mean_square(name):
    z = torch.randn(2_000_000, generator=torch.Generator().manual_seed(0))
    assert FUNCTIONS[name](z).square().mean().item() * gain_of(name) ** 2 == pytest.approx(1.0, rel=5e-3)


def test_gains_are_torchs_where_torch_has_the_exact_one():
    for name in ("linear", "relu"):
        assert gain_of(name) == pytest.approx(nn.init.calculate_gain(name), rel=1e-6)
    assert gain_of("leaky_relu:0.3") == pytest.approx(nn.init.calculate_gain("leaky_relu", 0.3), rel=1e-6)
    assert gain_of("selu") == pytest.approx(1.0, abs=1e-6)  # how it was made
    with pytest.raises(ValueError, match="unknown nonlinearity 'reul': choose among linear, relu"):
        gain_of("reul")
    with pytest.raises(ValueError, match="signals cannot pass it"):
        gain_of_function(torch.zeros_like)


def test_every_activation_module_has_a_name_that_is_known():
    for module in (nn.ReLU(), nn.Tanh(), nn.GELU(), nn.SiLU(), nn.Sigmoid(), nn.LeakyReLU(0.2), nn.Identity()):
        name = name_of(module)
        z = torch.linspace(-3, 3, 7)
        expected = functional.leaky_relu(z, 0.2) if "leaky" in name else FUNCTIONS[name](z)
        torch.testing.assert_close(module(z), expected)
    assert name_of(nn.Linear(1, 1)) is None


class Mixed(nn.Module):
    """Functions, methods, a residual sum, a branch and a layer used twice."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.norm, self.drop, self.conv = nn.LayerNorm(8), nn.Dropout(0.5), nn.Conv1d(1, 2, 3)
        self.batch_norm = nn.BatchNorm1d(8)

    def forward(self, x):
        h = functional.leaky_relu(self.a(x), 0.2)
        h = torch.tanh(self.norm(h + self.drop(self.b(h))))
        h = self.batch_norm(self.c(h)).relu()
        return self.head(h).mean() + functional.gelu(self.conv(x[:, None]).flatten(1)).mean()


EXPECTED = {"a": "leaky_relu:0.2", "b": "tanh", "c": "relu", "head": "linear", "conv": "gelu"}


def layers(model):
    return {n: m for n, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv1d))}


def test_traced_and_watched_find_the_same():
    model, batch = Mixed(), torch.randn(6, 4)
    assert following(model, layers(model)) == EXPECTED
    assert following(model, layers(model), batch) == EXPECTED


def test_watching_changes_nothing():
    model = Mixed().train()
    model.drop.eval()
    before = {n: v.clone() for n, v in model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    following(model, layers(model), torch.randn(6, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())
    assert [model.training, model.drop.training, model.norm.training] == [True, False, True]
    assert not model.a._forward_hooks


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 3)

    def forward(self, x):
        return torch.relu(self.a(x)) if x.sum() > 0 else self.a(x)


def test_a_graph_that_depends_on_values_asks_for_a_batch():
    model = Branching()
    with pytest.raises(NotTraceable, match="pass batch="):
        following(model, layers(model))
    assert following(model, layers(model), torch.ones(2, 3)) == {"a": "relu"}
    with pytest.raises(NotTraceable, match="the batch does not fit the model"):
        following(model, layers(model), torch.ones(2, 4))


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_inside_of_a_transformer(activation):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.TransformerEncoderLayer(8, 2, 16, activation=activation, batch_first=True)
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.block(x))

    model = Model()
    found = following(model, layers(model), torch.randn(2, 3, 8))
    assert found == following(model, layers(model))
    assert (found["block.linear1"], found["block.linear2"], found["head"]) == (activation, "linear", "linear")


@pytest.mark.parametrize("traced", [True, False])
def test_a_clamp_at_zero_is_a_rectifier(traced):
    class Clamped(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.d = (nn.Linear(4, 4) for _ in range(4))

        def forward(self, x):
            x = self.b(self.a(x).clamp(min=0))
            return self.d(torch.clamp(self.c(x.clip(-1, 1)), -3, 3))

    net = Clamped()
    layers = dict(net.named_children())
    found = following(net, layers, None if traced else torch.randn(2, 4))
    assert found == {"a": "relu", "b": "hardtanh", "c": "hardtanh:-3,3", "d": "linear"}


class FusedLinear(nn.Linear):
    def forward(self, x):
        return super().forward(x).relu()


class Standardized(nn.Conv1d):
    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2), keepdim=True)
        return self._conv_forward(x, weight / weight.std((1, 2), keepdim=True), self.bias)


class FusedNorm(nn.BatchNorm1d):
    def forward(self, x):
        return super().forward(x).relu()


class Functional(nn.Module):
    """Weights that are used without their modules, and a layer that does not run."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.idle = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return functional.linear(functional.linear(x, self.a.weight, self.a.bias).tanh(), self.b.weight.t()).relu()


def hooked(layer):
    layer.register_forward_hook(lambda module, args, output: output.relu())
    return layer


def replaced(layer):
    layer.forward = lambda x: functional.gelu(functional.linear(x, layer.weight))
    return layer


@pytest.mark.parametrize(
    ("build", "shape", "traced", "watched"),
    [
        (lambda: nn.Sequential(FusedLinear(4, 4), nn.Tanh()), (6, 4), {"0": "relu"}, {"0": "relu"}),
        (lambda: nn.Sequential(Standardized(4, 4, 1), nn.ReLU()), (2, 4, 5), {"0": "relu"}, {"0": "relu"}),
        (lambda: nn.Sequential(nn.Linear(4, 4), FusedNorm(4), nn.Tanh()), (6, 4), {"0": "unknown"}, {"0": "relu"}),
        (Functional, (6, 4), *[{"a": "tanh", "b": "relu", "idle": "unknown"}] * 2),
        (lambda: nn.Sequential(hooked(nn.Linear(4, 4)), nn.Tanh()), (6, 4), {"0": "unknown"}, {"0": "relu"}),
        (lambda: nn.Sequential(nn.Linear(4, 4), hooked(nn.Dropout())), (6, 4), {"0": "unknown"}, {"0": "relu"}),
        (lambda: nn.Sequential(replaced(nn.Linear(4, 4)), nn.Tanh()), (6, 4), {"0": "unknown"}, {"0": "gelu"}),
        *(
            (lambda norm=norm: nn.Sequential(norm(nn.Linear(4, 4)), nn.Tanh()), (6, 4), {"0": "tanh"}, {"0": "tanh"})
            for norm in (
                parametrizations.weight_norm,
                parametrizations.spectral_norm,
                parametrizations.orthogonal,
                nn.utils.weight_norm,
                nn.utils.spectral_norm,
                lambda m: prune.identity(m, "weight"),
            )
        ),
        (lambda: nn.Sequential(nn.MultiheadAttention(4, 2)), None, {"0.out_proj": "linear"}, None),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_what_follows_is_looked_for_where_the_weight_is_used(build, shape, traced, watched):
    model = build()
    assert following(model, layers(model)) == traced
    if watched is not None:
        assert following(model, layers(model), torch.randn(shape)) == watched


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        (nn.PReLU(), lambda z: functional.leaky_relu(z, 0.25)),
        (nn.RReLU(0.1, 0.3), lambda z: functional.leaky_relu(z, 0.2)),
        (nn.ELU(0.5), lambda z: functional.elu(z, 0.5)),
        (nn.CELU(2.0), lambda z: functional.celu(z, 2.0)),
        (nn.Hardtanh(-2, 2), lambda z: z.clamp(-2, 2)),
        (nn.Softplus(beta=5), lambda z: functional.softplus(z, 5)),
        (nn.Threshold(0, 0), torch.relu),
        (lambda z: functional.elu(z, 0.5), lambda z: functional.elu(z, 0.5)),
        (lambda z: functional.hardtanh(z, max_val=3.0), lambda z: z.clamp(-1, 3)),
        (lambda z: functional.threshold(z, 0, 0), torch.relu),
    ],
)
def test_a_nonlinearity_is_balanced_with_the_numbers_that_it_has(activation, function):
    for batch in (None, torch.randn(4, 8)):
        net = Then(activation)
        assert gain_of(following(net, {"a": net.a}, batch)["a"]) == pytest.approx(gain_of_function(function), rel=1e-6)


@pytest.mark.parametrize(
    "activation",
    [
        nn.GLU(),
        nn.Hardshrink(),
        nn.Tanhshrink(),
        lambda z: torch.where(z > 0, z, 0.0),
        torch.abs,
        torch.exp,
        lambda z: z**2,
        lambda z: torch.maximum(z, torch.zeros(())),
        lambda z: z.clamp(min=1),
        functional.glu,
    ],
)
def test_a_nonlinearity_without_a_gain_is_unknown_and_not_linear(activation):
    for batch in (None, torch.randn(4, 8)):
        net = Then(activation)
        assert following(net, {"a": net.a}, batch) == {"a": "unknown"}


class Then(nn.Module):
    """A layer and what is done with its output."""

    def __init__(self, activation):
        super().__init__()
        self.a, self.activation = nn.Linear(8, 8), activation

    def forward(self, x):
        return self.activation(self.a(x))


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (lambda x: x * torch.sigmoid(x), "silu"),
        (lambda x: x.sigmoid() * x, "silu"),
        (lambda x: torch.sigmoid(x) * 1.0, "sigmoid"),
        (lambda x: functional.relu(10 * x), "unknown"),
        (lambda x: functional.relu(x / 4 + 1), "unknown"),
        (lambda x: functional.relu(functional.layer_norm(10 * x, (4,))), "relu"),
        (lambda x: torch.tanh(-1 * x), "tanh"),
        (lambda x: 0.1 * x, "linear"),
    ],
)
def test_gates_and_numbers_on_the_way_are_read(activation, expected):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x):
            return activation(self.a(x))

    net = Net()
    assert following(net, {"a": net.a}) == following(net, {"a": net.a}, torch.randn(3, 4)) == {"a": expected}
