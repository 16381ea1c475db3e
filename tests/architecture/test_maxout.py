"""Maxout is the largest of its pieces, holds the rectifier as a case, and keeps the size of what it is given."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from thalweg.architecture import Maxout, maxout
from thalweg.initialization import initialize


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(1, 4), st.integers(1, 5), st.sampled_from([0, 1, 2, -1, -2, -3]))
def test_each_unit_is_the_largest_of_its_pieces(pieces, units, dim):
    shape = [2, 3, 4]
    shape[dim] = units * pieces
    x = normal(*shape)
    expected = torch.stack(
        [torch.stack([x.select(dim, i * pieces + j) for j in range(pieces)]).amax(0) for i in range(units)], dim=dim
    )
    assert torch.equal(maxout(x, pieces, dim), expected)


def test_layer_equals_the_book_s_formula():
    layer, x = Maxout(4, 3, pieces=5, dtype=torch.float64), normal(7, 4)
    weights = layer.linear.weight.detach().view(3, 5, 4)
    biases = layer.linear.bias.detach().view(3, 5)
    expected = [[max(w @ row + b for w, b in zip(weights[i], biases[i], strict=True)) for i in range(3)] for row in x]
    assert layer(x).tolist() == [pytest.approx([float(h) for h in units]) for units in expected]
    assert torch.autograd.gradcheck(layer, normal(2, 4, seed=1).requires_grad_())


def test_a_rectifier_is_the_maxout_of_its_input_and_zero():
    x = normal(5, 3)
    assert torch.equal(maxout(torch.stack([x, 0 * x], dim=2).flatten(1), 2), x.relu())


def test_pieces_that_tie_share_the_gradient():
    x = torch.zeros(1, 3, requires_grad=True)
    maxout(x, 3).sum().backward()
    assert x.grad.tolist() == [[pytest.approx(1 / 3)] * 3]


def test_twenty_layers_keep_the_size_of_their_input_at_gain_one():
    model = nn.Sequential(*(Maxout(256, 256) for _ in range(20)))
    initialize(model, "he", torch.Generator().manual_seed(0), gain=1.0)
    x = normal(256, 256).float()
    assert model(x).square().mean().sqrt().item() == pytest.approx(1, abs=0.3)


def test_stacked_models_equal_single_ones():
    x = normal(3, 2, 6)
    assert torch.equal(torch.func.vmap(lambda one: maxout(one, 2))(x), maxout(x, 2, dim=2))


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(ValueError, match=r"dimension 1 of shape \(2, 5\) does not divide into pieces of 2: pass units"):
        maxout(torch.zeros(2, 5), 2)
    with pytest.raises(ValueError, match="pieces is 0: a maxout unit needs at least one"):
        Maxout(2, 3, pieces=0)
