"""The order of admission: sorted, ties at random, classes in proportion, the same whatever the type."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from thalweg.curriculum.order import order_of

FLOATS = st.lists(st.floats(allow_nan=False), min_size=1, max_size=60)
FEW = st.lists(st.sampled_from([-1e300, -2.5, -0.0, 0.0, 1 / 3, 1e-310, 7.0, float("inf")]), min_size=1, max_size=60)


@given(st.one_of(FLOATS, FEW), st.integers(0, 3))
def test_it_is_a_permutation_that_sorts(values, seed):
    values = np.array(values)
    order = order_of(values, seed=seed)
    assert sorted(order.tolist()) == list(range(len(values)))
    assert (values[order] == np.sort(values)).all()
    assert (values[order_of(values, "hard-first", seed=seed)] == np.sort(values)[::-1]).all()


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=40))
@example([0, 0, 2**62 + 1, 2**62])  # both are 2⁶² in float64
def test_large_integers_are_told_apart(values):
    assert np.array(values)[order_of(values)].tolist() == sorted(values)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40))
def test_single_and_double_precision_give_one_order(values):
    single = torch.tensor(values, dtype=torch.float32)
    assert order_of(single).tolist() == order_of(single.double()).tolist()
    assert order_of(single).tolist() == order_of(single.numpy()).tolist() == order_of(single.tolist()).tolist()


@pytest.mark.parametrize("values", [[1.0] * 500, [0.1] * 250 + [1 / 3] * 250, list(range(2)) * 250])
def test_equally_hard_ones_come_in_an_order_of_the_seed(values):
    first, again, other = order_of(values, seed=1), order_of(values, seed=1), order_of(values, seed=2)
    assert first.tolist() == again.tolist() != other.tolist()
    easiest = [i for i in first.tolist() if values[i] == min(values)]
    # Half of the pairs of neighbours are in the order of their indices, to within four standard deviations.
    rises = sum(a < b for a, b in itertools.pairwise(easiest))
    assert abs(rises - len(easiest) / 2) < 4 * (len(easiest) / 12) ** 0.5


def test_a_random_order_ignores_the_difficulty():
    assert order_of([3.0, 1.0, 2.0], "random").tolist() == order_of([0.0] * 3, "random").tolist()


@given(st.lists(st.tuples(st.integers(0, 100), st.sampled_from("abc")), min_size=1, max_size=80))
def test_each_prefix_has_each_classs_easiest_in_proportion(examples):
    values, classes = map(np.array, zip(*examples, strict=True))
    order = order_of(values, classes=classes)
    assert sorted(order.tolist()) == list(range(len(values)))
    for name in "abc":
        mine = order[classes[order] == name]
        assert (np.diff(values[mine]) >= 0).all()
        share = (classes == name).mean()
        taken = np.cumsum(classes[order] == name)
        assert (np.abs(taken - share * np.arange(1, len(order) + 1)) <= 0.5 + 1.5 * share + 1e-9).all()


@pytest.mark.parametrize(
    ("difficulty", "options", "message"),
    [
        ([1.0, float("nan")], {}, "difficulty of example 1 is NaN: give a number; inf puts"),
        (torch.zeros(2, 2), {}, r"difficulty is float32 of shape \(2, 2\): give one number per example"),
        (["a"], {}, "give one number per example"),
        ([], {}, "difficulty has 0 examples"),
        ([1.0, 2.0], {"classes": [0]}, r"classes have shape \(1,\): give the class of each of 2 examples"),
        ([1.0], {"order": "up"}, "unknown order 'up': choose among easy-first, hard-first, random"),
    ],
)
def test_what_has_no_order_is_refused(difficulty, options, message):
    with pytest.raises(ValueError, match=message):
        order_of(difficulty, **options)
