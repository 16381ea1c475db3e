"""A scheme by its name is the published one; the gain of what follows, and any other, is an option that says so."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, prune

from thalweg.compare.strategy import Strategy
from thalweg.initialization import SCHEMES, gain_of, glorot_uniform_, he_, initialize, scale_by_data, sparse_


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


TORCHS = {
    "glorot-uniform": nn.init.xavier_uniform_,
    "glorot-normal": nn.init.xavier_normal_,
    "he": nn.init.kaiming_normal_,
    "orthogonal": nn.init.orthogonal_,
}
ACTIVATIONS = (nn.Tanh, nn.ReLU, nn.Sigmoid, nn.GELU, nn.SELU, nn.Identity, lambda: nn.LeakyReLU(0.3))


@pytest.mark.parametrize("scheme", TORCHS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layer", [lambda: nn.Linear(30, 20), lambda: nn.Conv2d(6, 8, 3), lambda: nn.Conv1d(4, 8, 2)])
def test_by_its_name_it_is_torchs_draw_for_draw_whatever_follows(scheme, activation, layer):
    model = nn.Sequential(layer(), activation())
    table = initialize(model, scheme, seeded(3))
    again = seeded(3)
    torch.randint(2**62, (), generator=again)  # the seed of what modules draw themselves
    expected = TORCHS[scheme](torch.empty(model[0].weight.shape), generator=again)
    torch.testing.assert_close(model[0].weight.detach(), expected)
    assert table["0.weight"].gain == pytest.approx(2**0.5 if scheme == "he" else 1.0)


@pytest.mark.parametrize("scheme", TORCHS)
def test_the_gain_is_an_option_and_multiplies(scheme):
    plain, model = (nn.Sequential(nn.Linear(30, 20), nn.Tanh()) for _ in range(2))
    initialize(plain, scheme, seeded())
    for gain, factor in (("nonlinearity", gain_of("tanh")), (0.7, 0.7)):
        table = initialize(model, scheme, seeded(), gain=gain)
        published = 2**0.5 if scheme == "he" else 1.0
        torch.testing.assert_close(model[0].weight, plain[0].weight * (factor / published))
        assert table["0.weight"].gain == pytest.approx(factor)
    initialize(model, scheme, seeded(), nonlinearity="tanh")
    torch.testing.assert_close(model[0].weight, plain[0].weight * (gain_of("tanh") / published))


def test_without_a_name_it_is_he_with_the_gain_of_what_follows():
    one, two = (nn.Sequential(nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 2)) for _ in range(2))
    initialize(one, generator=seeded())
    initialize(two, "he", seeded(), gain="nonlinearity")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert initialize(one)["2.weight"].gain == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"scheme": "sparse", "gain": 2.0}, "sparse has no gain: omit gain="),
        ({"scheme": "default", "gain": "nonlinearity"}, "default has no gain"),
        ({"scheme": "he", "gain": "relu"}, "gain must be a number above 0, or 'nonlinearity', not 'relu'"),
        *(({"scheme": "he", "gain": gain}, "gain must be a number above 0") for gain in (0, -1, float("nan"))),
        ({"scheme": "he", "gain": 2.0, "nonlinearity": "tanh"}, "give only one of them"),
        ({"scheme": "default", "rectifier_bias": 0.1}, "rectifier_bias is 0.1: give a number, together with a scheme"),
        ({"scheme": "he", "rectifier_bias": float("nan")}, "rectifier_bias is nan"),
    ],
)
def test_a_gain_that_cannot_be_is_refused_and_the_model_stays(options, match):
    model = nn.Linear(3, 3)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=match):
        initialize(model, **options)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_rectifiers_bias_is_set_under_every_scheme_that_draws():
    for scheme in [name for name, known in SCHEMES.items() if known]:
        model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
        initialize(model, scheme, seeded(), rectifier_bias=0.1, batch=torch.randn(8, 3))
        assert model[0].bias.tolist() == pytest.approx([0.1] * 3), scheme
        assert not model[2].bias.any()


def test_a_strategy_of_that_name_means_the_same():
    assert Strategy.parse("adam+glorot-uniform").initialization == "glorot-uniform"
    assert Strategy.parse("adam+glorot-uniform-gain@cosine").initialization == "glorot-uniform-gain"


COMPLEX = ["uniform-fan-in", "glorot-uniform", "glorot-normal", "he", "orthogonal", "sparse", "too-large"]


@pytest.mark.parametrize("scheme", COMPLEX)
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_weights_have_the_variance_of_real_ones_half_of_it_imaginary(scheme, dtype):
    real, model = nn.Linear(300, 200), nn.Linear(300, 200, dtype=dtype)
    initialize(real, scheme, seeded())
    table = initialize(model, scheme, seeded())
    w = model.weight.detach()
    assert w.abs().square().mean().item() == pytest.approx(real.weight.square().mean().item(), rel=0.05)
    assert w.imag.square().mean().item() == pytest.approx(w.real.square().mean().item(), rel=0.1)
    assert abs((w.real * w.imag).mean() / w.abs().square().mean()) < 0.02
    assert "half of the variance imaginary" in table["weight"].distribution
    if scheme == "orthogonal":
        torch.testing.assert_close(w @ w.mH, torch.eye(200, dtype=dtype), rtol=1e-4, atol=1e-4)
    if scheme == "sparse":
        assert (w != 0).sum(dim=1).eq(15).all()
    for fill in (glorot_uniform_, he_, sparse_):
        assert fill(torch.empty(20, 30, dtype=dtype)).imag.any()


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 2),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 2]),
    st.sampled_from(["he", "orthogonal", "uniform-fan-in"]),
)
def test_the_interior_of_a_transposed_convolution_keeps_the_variance(dims, stride, kernel, groups, dilation, scheme):
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d)[dims - 1]
    layer = kind(64, 64, kernel, stride, groups=groups, dilation=dilation, bias=False)
    initialize(layer, scheme, seeded(), **({} if scheme == "uniform-fan-in" else {"gain": 1.0}))
    size = (60, 14)[dims - 1]
    with torch.no_grad():
        y = layer(torch.randn(24, 64, *[size] * dims, generator=seeded(1)))
    margin = dilation * (kernel - 1) + 1
    period = -(-margin // stride) * stride  # whole periods, so that all phases count alike
    end = (y.shape[-1] // stride - period // stride - 1) * stride
    inside = (slice(None), slice(None), *[slice(period, end)] * dims)
    expected = 1 / 3 if scheme == "uniform-fan-in" else 1.0
    assert y[inside].square().mean().item() == pytest.approx(expected, rel=0.25)


def test_the_table_shows_the_fan_in_that_meets_in_an_output():
    table = initialize(nn.ConvTranspose2d(8, 4, 4, stride=2), "he", seeded())
    assert (table["weight"].fan_in, table["weight"].fan_out) == (32, 64)
    assert initialize(nn.ConvTranspose1d(3, 4, 3, stride=2), "he", seeded())["weight"].fan_in == 4.5


def normed():
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(40, 30)),
        nn.BatchNorm1d(30, affine=False),
        nn.ReLU(),
        nn.utils.weight_norm(nn.Linear(30, 30)),
        nn.Tanh(),
        nn.utils.spectral_norm(nn.Linear(30, 30)),
        parametrizations.spectral_norm(nn.Linear(30, 30)),
        parametrizations.orthogonal(nn.Linear(30, 30)),
        prune.identity(nn.Linear(30, 30), "weight"),
        nn.Linear(30, 2),
    )


class Raw(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.net = nn.Parameter(torch.zeros(40)), normed()
        self.register_buffer("positions", torch.arange(4.0))

    def forward(self, x):
        return self.net(x + self.token)


@pytest.mark.parametrize("scheme", [None, "he", "glorot-uniform", "default"])
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_after_to_empty_everything_is_initialized_or_named(scheme):
    model = Raw().to("meta").to_empty(device="cpu")
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.fill_(float("nan") if tensor.is_floating_point() else -7)  # as memory may hold
    table = initialize(model, scheme, seeded())
    named = {row.parameter for row in table if "set it yourself" in row.distribution}
    assert named == {"token", "positions", "net.8.weight_mask"}
    assert all(t.isfinite().all() and (t != -7).all() for n, t in model.state_dict().items() if n not in named)
    with torch.no_grad():
        model.token.zero_()
        model.net[8].weight_mask.fill_(1)
    model.eval()
    assert model(torch.randn(5, 40)).isfinite().all()
    assert torch.linalg.matrix_norm(model.net[6].weight, 2).item() == pytest.approx(1.0, rel=0.1)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("norm", [parametrizations.weight_norm, nn.utils.weight_norm])
def test_a_normed_weight_is_the_one_that_the_plain_layer_gets(norm):
    plain, model = nn.Sequential(nn.Linear(40, 30), nn.ReLU()), nn.Sequential(norm(nn.Linear(40, 30)), nn.ReLU())
    initialize(plain, "he", seeded())
    initialize(model, "he", seeded())
    x = torch.randn(5, 40)
    torch.testing.assert_close(model(x), plain(x))
    model = nn.Sequential(norm(nn.Linear(40, 30)), nn.Tanh(), norm(nn.Linear(30, 20)))
    report = scale_by_data(model, torch.randn(100, 40))
    assert report.done
    assert [scaled.layer for scaled in report.layers] == ["0", "2"]


def test_what_has_no_shape_yet_is_refused():
    with pytest.raises(ValueError, match="0.weight has no shape yet: run the model on an input first"):
        initialize(nn.Sequential(nn.LazyLinear(3)))


def test_a_frozen_parameter_stays_and_says_so():
    model = nn.Linear(3, 3)
    model.weight.requires_grad_(False)
    before = model.weight.clone()
    assert initialize(model)["weight"].distribution == "unchanged (not trained)"
    assert torch.equal(model.weight, before)


def test_a_residual_branch_that_ends_in_a_computed_weight_is_refused():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = parametrizations.weight_norm(nn.Linear(3, 3))

        def forward(self, x):
            return x + self.layer(x)

    with pytest.raises(ValueError, match="ends in 'layer', whose start is not known: its weight is parametrized"):
        initialize(Block(), residual="zero")
