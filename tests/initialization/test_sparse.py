"""Sparse initialization: exactly k inputs a unit, every choice of them equally likely."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from thalweg.initialization import SCHEMES, initialize, sparse_


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def dense(n, m, kernel):
    return torch.empty(n, m)


def convolution(n, m, kernel):
    return torch.empty(n, m, *kernel)


def transposed(n, m, kernel):
    return torch.empty(m, n, *kernel).transpose(0, 1)


def channels_last(n, m, kernel):
    return torch.empty(n, *kernel, m).movedim(-1, 1)


LAYOUTS = [dense, convolution, transposed, channels_last]


@pytest.mark.parametrize("layout", LAYOUTS)
@given(
    n=st.integers(1, 20),
    m=st.integers(1, 30),
    kernel=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    part=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=40, deadline=None)
def test_every_unit_gets_exactly_k_inputs(layout, n, m, kernel, part, seed):
    weight = layout(n, m, kernel)
    fan_in = weight.shape[1:].numel()
    k = 1 + int(part * (fan_in - 1))
    assert sparse_(weight, seeded(seed), k=k) is weight
    assert (weight != 0).flatten(1).sum(dim=1).tolist() == [k] * n


@given(k=st.integers(1, 36), seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_a_seed_says_the_weight_whatever_its_layout_and_dtype(k, seed):
    expected = sparse_(convolution(5, 4, (3, 3)), seeded(seed), k)
    for layout in (transposed, channels_last):
        assert torch.equal(sparse_(layout(5, 4, (3, 3)), seeded(seed), k), expected)
    assert torch.equal(sparse_(dense(5, 36, ()), seeded(seed), k).view(5, 4, 3, 3), expected)
    double = sparse_(torch.empty(5, 4, 3, 3, dtype=torch.float64), seeded(seed), k)
    assert torch.equal(double.float(), expected)
    assert torch.equal(sparse_(torch.empty(5, 4, 3, 3, dtype=torch.bfloat16), seeded(seed), k), double.bfloat16())


def test_the_global_generator_draws_by_default():
    torch.manual_seed(4)
    drawn = sparse_(torch.empty(5, 40))
    assert torch.equal(drawn, sparse_(torch.empty(5, 40), seeded(4)))


@pytest.mark.parametrize(("m", "k"), [(5, 1), (6, 2), (6, 3), (6, 4), (5, 4), (9, 7)])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_set_of_inputs_is_equally_likely(m, k, seed):
    chosen = sparse_(torch.empty(40_000, m), seeded(seed), k=k) != 0
    sets, counts = chosen.unique(dim=0, return_counts=True)
    assert len(sets) == math.comb(m, k)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_units_choose_independently():
    chosen = sparse_(torch.empty(40_000, 4), seeded(), k=2) != 0
    of_unit = chosen.float() @ torch.tensor([1.0, 2.0, 4.0, 8.0])
    table = stats.contingency.crosstab(of_unit[::2].numpy(), of_unit[1::2].numpy()).count
    assert table.shape == (6, 6)
    assert stats.chi2_contingency(table).pvalue > 1e-3


@pytest.mark.parametrize("k", [5, 90])
def test_chosen_weights_are_normal_wherever_they_lie(k):
    weight = sparse_(torch.empty(2000, 100, dtype=torch.float64), seeded(), k=k, std=0.3)
    assert stats.kstest(weight[weight != 0].numpy(), stats.norm(0, 0.3).cdf).pvalue > 1e-3
    assert stats.kstest(weight[:, :50][weight[:, :50] != 0].numpy(), stats.norm(0, 0.3).cdf).pvalue > 1e-3


def test_total_input_of_a_unit_does_not_depend_on_the_number_of_inputs():
    sizes = [sparse_(torch.empty(2000, m), seeded(m)).sum(dim=1).std().item() for m in (100, 1000)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)
    assert sizes[0] == pytest.approx(15**0.5, rel=0.1)


@given(m=st.integers(1, 30), extra=st.integers(1, 30))
@settings(max_examples=20, deadline=None)
def test_more_inputs_than_there_are_are_refused_by_number_and_the_weight_stays(m, extra):
    weight = torch.ones(3, m)
    with pytest.raises(ValueError, match=f"k = {m + extra} non-zero weights do not fit a fan-in of {m}: "):
        sparse_(weight, k=m + extra)
    assert weight.eq(1).all()


def test_no_inputs_and_no_matrix_are_refused():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        sparse_(torch.empty(3, 4), k=0)
    with pytest.raises(ValueError, match="at least two dimensions"):
        sparse_(torch.empty(30))


def test_the_kernels_cells_count_as_inputs():
    with pytest.raises(ValueError, match="k = 19 non-zero weights do not fit a fan-in of 18"):
        sparse_(torch.empty(4, 2, 3, 3), k=19)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda: nn.Linear(40, 6), 15),
        (lambda: nn.Linear(8, 6), 8),
        (lambda: nn.Conv2d(1, 4, 3), 9),
        (lambda: nn.Conv1d(8, 4, 5, groups=2), 15),
        (lambda: nn.ConvTranspose1d(2, 3, 4), 8),
        (lambda: nn.ConvTranspose2d(9, 3, 3), 15),
    ],
)
def test_a_model_is_drawn_sparsely_where_its_layers_are_wide_enough(layer, expected):
    layer = layer()
    initialize(layer, "sparse", seeded())
    rows = layer.weight.transpose(0, 1) if isinstance(layer, nn.modules.conv._ConvTransposeNd) else layer.weight
    assert (rows != 0).flatten(1).sum(dim=1).tolist() == [expected] * len(rows)


def test_the_scheme_of_that_name_takes_narrow_weights():
    assert SCHEMES["sparse"](torch.empty(4, 3), seeded()).ne(0).all()
    assert SCHEMES["sparse"](torch.empty(4, 0), seeded()).shape == (4, 0)
