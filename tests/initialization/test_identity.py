"""Initializations that hand on what they get: identity and delta-orthogonal."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from thalweg.initialization import delta_orthogonal_, identity_, orthogonal_

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
kernels = st.lists(st.integers(1, 5), min_size=1, max_size=3)
sizes = st.integers(1, 6)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def image(channels, kernel, seed=0):
    return torch.randn(2, channels, *[6] * len(kernel), dtype=torch.float64, generator=seeded(seed))


@given(n=sizes, m=sizes)
@settings(max_examples=30, deadline=None)
def test_dense_identity_is_torchs(n, m):
    expected = nn.init.eye_(torch.empty(n, m))
    assert torch.equal(identity_(torch.empty(n, m)), expected)
    assert torch.equal(identity_(torch.empty(m, n).T, gain=3.0), 3 * expected)


@given(outputs=sizes, inputs=sizes, kernel=kernels, groups=st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_convolutions_identity_is_torchs_dirac(outputs, inputs, kernel, groups):
    shape = (outputs * groups, inputs, *kernel)
    expected = nn.init.dirac_(torch.empty(shape), groups)
    assert torch.equal(identity_(torch.empty(shape), groups=groups), expected)
    assert torch.equal(identity_(torch.empty(shape), gain=0.5, groups=groups), expected / 2)


@given(channels=sizes, kernel=kernels, groups=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_identity_hands_its_input_on(channels, kernel, groups):
    channels *= groups
    weight = identity_(torch.empty(channels, channels // groups, *kernel, dtype=torch.float64), groups=groups)
    x = image(channels, kernel)
    y = CONVOLUTIONS[len(kernel)](x, weight, padding=[k // 2 for k in kernel], groups=groups)
    # An even kernel gives one pixel more than it got, at the end.
    assert torch.equal(y[(..., *[slice(6)] * len(kernel))], x)


def test_an_even_kernel_moves_the_image_by_one_at_same_padding():
    x = image(1, [4])
    weight = identity_(torch.empty(1, 1, 4, dtype=torch.float64))
    # What padding="same" stands for: 3 cells more, of which the odd one comes at the end.
    y = F.conv1d(F.pad(x, (1, 2)), weight)
    assert torch.equal(y[..., :-1], x[..., 1:])


@given(channels=sizes, groups=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_identity_serves_transposed_convolutions_as_it_is(channels, groups):
    channels *= groups
    layer = nn.ConvTranspose2d(channels, channels, 3, padding=1, groups=groups, bias=False, dtype=torch.float64)
    identity_(layer.weight, groups=groups)
    x = image(channels, [3, 3])
    assert torch.equal(layer(x), x)


@given(
    inputs=sizes,
    more=st.integers(0, 4),
    kernel=kernels,
    groups=st.integers(1, 3),
    gain=st.floats(0.1, 10),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=40, deadline=None)
def test_delta_orthogonal_keeps_lengths(inputs, more, kernel, groups, gain, seed):
    weight = torch.full((groups * (inputs + more), inputs, *kernel), 7.0, dtype=torch.float64)
    assert delta_orthogonal_(weight, seeded(seed), gain, groups) is weight
    x = image(inputs * groups, kernel, seed)
    y = CONVOLUTIONS[len(kernel)](x, weight, padding=[k // 2 for k in kernel], groups=groups)
    torch.testing.assert_close(y.norm(), gain * x.norm())


@given(inputs=sizes, more=st.integers(0, 4), kernel=kernels)
@settings(max_examples=30, deadline=None)
def test_delta_orthogonal_is_torchs_orthogonal_at_the_centre_and_zero_elsewhere(inputs, more, kernel):
    weight = delta_orthogonal_(torch.empty(inputs + more, inputs, *kernel), seeded(5), gain=2.0)
    centre = (slice(None), slice(None), *(k // 2 for k in kernel))
    expected = nn.init.orthogonal_(torch.empty(inputs + more, inputs), gain=2.0, generator=seeded(5))
    assert torch.equal(weight[centre], expected)
    weight[centre] = 0
    assert not weight.any()


def test_a_deep_stack_keeps_every_length_where_orthogonal_rows_keep_some_and_lose_others():
    """Xiao et al. 2018: with a circular padding, a linear network of any depth is an isometry."""
    side, depth = 4, 30
    images = torch.eye(8 * side**2, dtype=torch.float64).view(-1, 8, side, side)

    def stretches(draw):
        layers = [nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular", bias=False) for _ in range(depth)]
        network = nn.Sequential(*layers).double()
        generator = seeded(1)
        for layer in layers:
            draw(layer.weight, generator=generator)
        with torch.no_grad():
            return torch.linalg.svdvals(network(images).flatten(1))

    torch.testing.assert_close(stretches(delta_orthogonal_), torch.ones(len(images), dtype=torch.float64))
    orthogonal = stretches(orthogonal_)
    assert orthogonal[0] > 2
    assert orthogonal[-1] < 1e-3


def test_half_precision_and_the_global_generator():
    torch.manual_seed(3)
    weight = delta_orthogonal_(torch.empty(6, 4, 3, dtype=torch.bfloat16))
    expected = delta_orthogonal_(torch.empty(6, 4, 3), seeded(3))
    assert torch.equal(weight, expected.bfloat16())


@given(inputs=st.integers(2, 6), groups=st.integers(1, 3))
@settings(max_examples=10, deadline=None)
def test_fewer_outputs_than_inputs_are_refused_and_the_weight_stays(inputs, groups):
    weight = torch.ones(groups * (inputs - 1), inputs, 3, 3)
    with pytest.raises(ValueError, match=f"{inputs - 1} outputs cannot keep the length of {inputs} inputs"):
        delta_orthogonal_(weight, groups=groups)
    assert weight.eq(1).all()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="has no kernel: use orthogonal_"):
        delta_orthogonal_(torch.empty(3, 3))
    with pytest.raises(ValueError, match="at least two dimensions"):
        identity_(torch.empty(3))
    for draw in (identity_, delta_orthogonal_):
        with pytest.raises(ValueError, match="3 groups do not divide the 4 channels"):
            draw(torch.empty(4, 1, 3), groups=3)


@pytest.mark.parametrize("draw", [identity_, delta_orthogonal_])
def test_parameters_can_be_filled_and_trained(draw):
    layer = nn.Conv1d(2, 2, 3, padding=1)
    draw(layer.weight)
    assert layer.weight.is_leaf
    assert layer.weight.requires_grad
    layer(torch.ones(1, 2, 4)).sum().backward()
    assert layer.weight.grad is not None
