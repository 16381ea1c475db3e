"""What each initialization promises."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from thalweg.initialization import SCHEMES, fans, initialize

SHAPES = [(300, 200), (64, 32, 3, 3), (50, 40, 5)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(name, shape, seed=0):
    return SCHEMES[name](torch.empty(shape, dtype=torch.float64), seeded(seed))


@pytest.mark.parametrize("shape", SHAPES)
def test_fans_are_torchs(shape):
    assert fans(torch.empty(shape)) == nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("uniform-fan-in", lambda m, n: stats.uniform(-1 / math.sqrt(m), 2 / math.sqrt(m))),
        ("glorot-uniform", lambda m, n: stats.uniform(-math.sqrt(6 / (m + n)), 2 * math.sqrt(6 / (m + n)))),
        ("glorot-normal", lambda m, n: stats.norm(0, math.sqrt(2 / (m + n)))),
        ("he", lambda m, n: stats.norm(0, math.sqrt(2 / m))),
        ("too-large", lambda m, n: stats.norm(0, 10 / math.sqrt(m))),
    ],
)
def test_weights_follow_their_law(name, law, shape):
    weight = drawn(name, shape)
    assert stats.kstest(weight.flatten().numpy(), law(*fans(weight)).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "torchs"),
    [
        ("glorot-uniform", nn.init.xavier_uniform_),
        ("glorot-normal", nn.init.xavier_normal_),
        ("he", lambda w, generator: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=generator)),
        ("orthogonal", nn.init.orthogonal_),
    ],
)
def test_draws_are_torchs_where_torch_has_the_scheme(name, torchs):
    expected = torchs(torch.empty(30, 20), generator=seeded())
    torch.testing.assert_close(SCHEMES[name](torch.empty(30, 20), seeded()), expected)


@given(st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=20)
def test_orthogonal_keeps_lengths(n, m):
    w = drawn("orthogonal", (n, m))
    gram = w @ w.T if n <= m else w.T @ w
    torch.testing.assert_close(gram, torch.eye(min(n, m), dtype=torch.float64))


IMAGES = torch.randn(32, 1, 4, 4, generator=torch.Generator().manual_seed(7))


def net():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 2, bias=False)
    )


@pytest.mark.parametrize("name", SCHEMES)
def test_a_model_is_drawn_by_the_generator_alone(name):
    torch.manual_seed(1)
    one, two = net(), net()
    before = torch.get_rng_state()
    initialize(one, name, seeded(3), batch=IMAGES)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    initialize(two, name, seeded(3), batch=IMAGES)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    if name not in ("default", "constant"):
        initialize(two, name, seeded(4), batch=IMAGES)
        assert not torch.equal(one[0].weight, two[0].weight)


@pytest.mark.parametrize("name", [n for n in SCHEMES if n != "default"])
def test_biases_are_zero_norms_are_reset_and_frozen_parameters_stay(name):
    model = net()
    with torch.no_grad():
        model[1].weight.fill_(7.0)
        model[3].weight.fill_(5.0)
    model[3].requires_grad_(False)
    bias = model[3].bias.clone()
    initialize(model, name, seeded(), batch=IMAGES)
    assert not model[0].bias.any()
    assert model[1].weight.eq(1).all()
    assert model[3].weight.eq(5).all()
    assert torch.equal(model[3].bias, bias)


def test_default_is_what_torch_itself_draws():
    torch.manual_seed(int(torch.randint(2**62, (), generator=seeded(9))))
    expected = net()
    model = net()
    initialize(model, "default", seeded(9))
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_transposed_convolution_is_drawn_by_the_inputs_of_its_units():
    layer = nn.ConvTranspose2d(400, 3, 1)
    initialize(layer, "he", seeded(), nonlinearity="relu")
    assert layer.weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.1)


@pytest.mark.parametrize("name", [n for n, scheme in SCHEMES.items() if scheme and not scheme.scaled])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_is_drawn_as_the_convolution_of_the_same_units(name, groups):
    """Unit for unit, whatever the layout: inputs come first in a transposed convolution, group by group."""
    ordinary = nn.Conv2d(6, 4, 3, padding=1, groups=groups)
    turned = nn.ConvTranspose2d(6, 4, 3, padding=1, groups=groups)
    initialize(ordinary, name, seeded(2))
    initialize(turned, name, seeded(2))
    x = torch.randn(1, 6, 5, 5, generator=seeded())
    # A transposed convolution turns its kernel around.
    torch.testing.assert_close(turned(x), nn.functional.conv2d(x, ordinary.weight.flip(2, 3), padding=1, groups=groups))


def test_units_that_start_equal_stay_equal_for_ever():
    """Book §8.4: nothing but the start breaks the symmetry of units with the same inputs."""
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    initialize(model, "constant", seeded())
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    x = torch.randn(64, 3, generator=seeded(1))
    for _ in range(50):
        optimizer.zero_grad()
        (model(x) - x[:, :1] * x[:, 1:2]).square().mean().backward()
        optimizer.step()
    rows = model[0].weight.detach()
    torch.testing.assert_close(rows, rows[:1].expand_as(rows), rtol=0, atol=1e-6)
    assert rows.std() > 0.01


def test_too_large_a_start_blows_a_perturbation_up_by_its_gain_at_each_layer():
    torch.manual_seed(0)
    layers = nn.Sequential(*[nn.Linear(200, 200, bias=False) for _ in range(4)])
    initialize(layers, "too-large", seeded())
    x, nudge = torch.randn(200), 1e-3 * torch.randn(200)
    growth = (layers(x + nudge) - layers(x)).norm() / nudge.norm()
    assert growth.item() == pytest.approx(10**4, rel=0.5)


@pytest.mark.parametrize("name", ["lsuv", "first-small"])
def test_schemes_that_scale_by_a_batch_reach_unit_deviation_or_leave_the_model_as_it_was(name):
    model = net()
    table = initialize(model, name, seeded(), batch=IMAGES)
    outputs = {}
    handles = [model[i].register_forward_hook(lambda m, x, y, i=i: outputs.update({i: y})) for i in (0, 3, 5)]
    model(IMAGES)
    for handle in handles:
        handle.remove()
    for i, y in outputs.items():
        units = y.movedim(1, -1).flatten(0, -2)
        assert 0.79 < units.var(0, correction=0).mean().sqrt() < 1.26, i
    assert "·" in table["5.weight"].distribution
    start = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=f"{name} scales by data: pass batch="):
        initialize(model, name, seeded())
    with pytest.raises(ValueError, match="the same output for every example"):
        initialize(model, name, seeded(), batch=torch.ones(8, 1, 4, 4))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), start, strict=True))
