"""Temperature, noise on inputs, and nonlinearities that begin as the identity."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from thalweg.continuation import (
    Falling,
    GaussianSmoothing,
    InputNoise,
    Morph,
    Morphing,
    Temperature,
    morph,
    unmorph,
)
from thalweg.continuation.morphing import ELEMENTWISE


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.floats(0, 1), st.sampled_from(["geometric", "linear"]))
def test_amounts_fall_between_their_ends(start, end, t, shape):
    falling = Falling(start, end, shape)
    assert falling(0.0) == pytest.approx(start)
    assert falling(1.0) == pytest.approx(end)
    assert min(start, end) * (1 - 1e-9) <= falling(t) <= max(start, end) * (1 + 1e-9)


@pytest.mark.parametrize("ends", [(0.0, 1.0), (1.0, -1.0), (float("inf"), 1.0), (1.0, float("nan"))])
def test_amounts_are_positive(ends):
    with pytest.raises(ValueError, match="give positive numbers"):
        Falling(*ends)
    with pytest.raises(ValueError, match="unknown shape 'cubic': choose geometric or linear"):
        Falling(1.0, 1.0, "cubic")


def problem():
    source = torch.Generator().manual_seed(0)
    x = torch.randn(9, 4, generator=source, dtype=torch.float64)
    return x, torch.randint(3, (9,), generator=source)


def network(kind=nn.Tanh):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), kind(), nn.Linear(6, 6), kind(), nn.Linear(6, 3)).double()


def cost(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def test_temperature_ends_at_the_cost_and_is_linear_in_the_outputs_where_it_is_high():
    model, batch = network(), problem()
    family = Temperature(functional.cross_entropy, Falling(1e6, 1.0))
    assert family(model, batch, 1.0) == cost(model, batch)
    z = model(batch[0]).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(family(nn.Identity(), (z, batch[1]), 0.0), z)
    torch.testing.assert_close(gradient, (1 / 3 - functional.one_hot(batch[1], 3).double()) / 9, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="tau is 0.0 at t = 0"):
        Temperature(functional.cross_entropy, 0.0)
    with pytest.raises(ValueError, match="tau is -1.0 at t = 1"):
        Temperature(functional.cross_entropy, lambda t: 1 - 2 * t)(model, batch, 1.0)


def test_noise_on_inputs_has_its_width_and_ends():
    x, y = torch.ones(200, 50), torch.arange(200)
    seen = []
    family = InputNoise(
        lambda m, b: seen.append(b) or m(b[0]).sum(), Falling(2.0, 0.5), generator=torch.Generator().manual_seed(0)
    )
    for t in (0.0, 0.5, 1.0):
        family(nn.Identity(), (x, y), t)
    assert (seen[0][0] - x).std().item() == pytest.approx(2.0, rel=0.03)
    assert (seen[1][0] - x).std().item() == pytest.approx(1.0, rel=0.03)
    assert seen[2][0] is x
    assert all(batch[1] is y for batch in seen)
    other = InputNoise(lambda m, b: m(b[0]).sum(), Falling(2.0, 0.5), generator=torch.Generator())
    other.load_state_dict(family.state_dict())
    assert other(nn.Identity(), (x, y), 0.0) == family(nn.Identity(), (x, y), 0.0)
    tokens = torch.ones(3, dtype=torch.long)
    InputNoise(lambda m, b: seen.append(b) or b[0].sum(), 1.0)(None, (tokens, y), 0.0)
    assert seen[-1][0] is tokens
    with pytest.raises(ValueError, match="sigma is 0.0 at t = 0"):
        InputNoise(cost, 0.0)


@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_every_nonlinearity_goes_from_the_identity_to_itself(kind):
    phi, x = kind(), torch.linspace(-3, 3, 31)
    around = Morph(phi)
    assert torch.equal(around(x), x)
    around.t = 1.0
    assert torch.equal(around(x), phi(x))
    around.t = 0.25
    torch.testing.assert_close(around(x), 0.75 * x + 0.25 * phi(x))


def test_in_place_nonlinearities_leave_what_they_are_blended_with():
    x = torch.tensor([-1.0, 2.0])
    around = Morph(nn.ReLU(inplace=True))
    around.t = 0.5
    assert around(x).tolist() == [-0.5, 2.0]
    assert x.tolist() == [-1.0, 2.0]


@pytest.mark.parametrize("kind", [nn.Tanh, nn.ReLU, nn.PReLU])
def test_a_model_begins_linear_and_ends_as_it_was(kind):
    batch, plain = problem(), network(kind)
    model = copy.deepcopy(plain)
    original = [model[1], model[3]]
    assert morph(model) is model
    family = Morphing(cost)
    family(model, batch, 0.0)
    linear = nn.Sequential(model[0], model[2], model[4])
    torch.testing.assert_close(model(batch[0]), linear(batch[0]))
    assert family(model, batch, 1.0) == cost(plain, batch)
    family(model, batch, 0.5)
    assert unmorph(model) is model
    assert [model[1], model[3]] == original
    assert list(model.state_dict()) == list(plain.state_dict())
    assert torch.equal(model(batch[0]), plain(batch[0]))


def test_a_nonlinearity_used_twice_stays_one_and_kinds_may_be_ones_own():
    class Square(nn.Module):
        def forward(self, x):
            return x**2

    square = Square()
    model = nn.Sequential(square, nn.Linear(2, 2), square, nn.Tanh())
    morph(model, (Square,))
    assert model[0] is model[2]
    assert isinstance(model[3], nn.Tanh)
    unmorph(model)
    assert model[0] is model[2] is square


def test_what_cannot_be_morphed_is_refused():
    with pytest.raises(ValueError, match=r"the model contains no nonlinearity as a module: use nn\.ReLU"):
        morph(nn.Sequential(nn.Linear(1, 1)))
    with pytest.raises(ValueError, match=r"no nonlinearity of the model is morphed: call morph\(model\) first"):
        Morphing(cost)(network(), problem(), 0.5)


def test_families_combine():
    model, batch = morph(network()), problem()
    morphing = Morphing(cost)
    smooth = GaussianSmoothing(lambda m, b: morphing(m, b, 0.5), 1e-8)
    torch.testing.assert_close(smooth(model, batch), morphing(model, batch, 0.5))
