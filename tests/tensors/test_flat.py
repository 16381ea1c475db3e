"""A flat vector and its named views are one memory, with and without lanes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from thalweg.tensors import Layout, derive_seed, generator

SHAPES = st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=5)


@given(SHAPES, st.lists(st.integers(1, 3), max_size=2))
def test_flatten_and_unflatten_are_inverse(shapes, lead):
    parameters = {f"p{i}": torch.randn((*lead, *shape)) for i, shape in enumerate(shapes)}
    layout = Layout(tuple(parameters), tuple(torch.Size(shape) for shape in shapes))
    flat = layout.flatten(parameters)
    assert flat.shape == (*lead, layout.size)
    for name, view in layout.unflatten(flat).items():
        assert torch.equal(view, parameters[name])


def test_views_share_memory_with_the_flat_vector():
    layout = Layout.of({"w": torch.zeros(2, 3), "b": torch.zeros(2)})
    flat = torch.zeros(4, layout.size)
    layout.unflatten(flat)["b"][2] = 7.0
    assert torch.equal(flat[2], torch.tensor([0.0] * 6 + [7.0, 7.0]))


def test_frozen_parameters_are_left_out_and_shared_ones_stand_once():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    assert Layout.of_model(model).names == ("0.weight", "1.bias")


@given(st.integers(0, 2**62), st.text(max_size=5), st.integers(0, 9))
def test_streams_depend_on_seed_and_name_alone(root, name, number):
    assert derive_seed(root, name, number) == derive_seed(root, name, number)
    assert derive_seed(root, name, number) != derive_seed(root, name, number + 1)
    assert derive_seed(root, name, number) != derive_seed(root, name, str(number))


def test_a_generator_repeats_itself():
    assert torch.equal(torch.rand(3, generator=generator(1, "a")), torch.rand(3, generator=generator(1, "a")))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(
            torch.rand(3, generator=generator(1, "a")), torch.rand(3, generator=generator(2, "a"))
        )


@pytest.mark.parametrize("shape", [(3, 2), (6,), (2, 2), (), (3,)])
def test_parameters_of_another_shape_have_no_place(shape):
    layout = Layout.of({"w": torch.zeros(2, 3)})
    with pytest.raises(ValueError, match=r"w is .*, where the layout has \(2, 3\)"):
        layout.flatten({"w": torch.zeros(shape)})


@pytest.mark.parametrize("size", [5, 7, 0, 60])
def test_vectors_of_another_size_have_no_views(size):
    layout = Layout.of({"w": torch.zeros(2, 3)})
    with pytest.raises(ValueError, match="where the layout has 6 numbers"):
        layout.unflatten(torch.zeros(4, size))
