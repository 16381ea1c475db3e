"""A range is searched evenly on its scale, its values stay within it, and it is stored and read as it is."""

import json
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from thalweg import OneOf, Range
from thalweg.compare.design import configuration, edge, mean_of, middle, window
from thalweg.compare.ranges import as_range, shown, usual_scale

ON_SCALE = {
    "log": math.log,
    "linear": lambda x: x,
    "one-minus": lambda x: -math.log(1 - x),
}
shares = st.floats(1e-6, 1 - 1e-6)
rates = st.tuples(st.floats(0.0, 0.9), st.floats(0.91, 0.9999)).map(lambda ends: Range(*ends, "one-minus"))
shifts = st.tuples(st.floats(-5, 5), st.floats(0.1, 9)).map(lambda ends: Range(ends[0], ends[0] + ends[1], "linear"))
decades = st.tuples(st.floats(1e-6, 1e-2), st.floats(1.5, 1e5)).map(lambda ends: Range(ends[0], ends[0] * ends[1]))
wholes = st.tuples(st.integers(0, 9), st.integers(1, 50), st.sampled_from(["log", "linear"])).map(
    lambda given: Range(given[0] + (given[2] == "log"), given[0] + given[1] + 1, given[2], whole=True)
)
ranges = st.one_of(rates, shifts, decades)


@given(ranges, shares)
def test_points_are_even_on_the_scale(bounds, u):
    to = ON_SCALE[bounds.scale]
    value = configuration({"x": bounds}, [u])["x"]
    share = (to(value) - to(bounds.low)) / (to(bounds.high) - to(bounds.low))
    assert share == pytest.approx(u, abs=2e-3)


@given(wholes, shares)
def test_whole_numbers_are_whole_and_within(bounds, u):
    value = bounds.at(u)
    assert isinstance(value, int)
    assert bounds.low <= value <= bounds.high


@given(st.one_of(rates, shifts), shares, shares)
def test_a_window_lies_within_a_range_that_is_not_the_learning_rates(bounds, u, v):
    part = as_range(window({"x": bounds}, [{"x": bounds.at(u)}])["x"])
    slack = 1e-5 * max(1.0, abs(bounds.low), abs(bounds.high))
    assert bounds.low - slack <= part.at(v) <= bounds.high + slack


@given(ranges, st.lists(shares, min_size=1, max_size=3))
def test_the_mean_lies_between(bounds, us):
    values = [bounds.at(u) for u in us]
    mean = mean_of([{"x": v} for v in values], {"x": bounds})["x"]
    slack = 1e-5 * max(1.0, *map(abs, values))
    assert min(values) - slack <= mean <= max(values) + slack


@given(st.one_of(ranges, wholes, st.just(OneOf((1e-8, 1e-4, True)))))
def test_a_range_is_read_as_it_was_stored(bounds):
    assert as_range(json.loads(json.dumps(bounds.stored()))) == bounds


def test_values_are_taken_in_equal_parts_and_the_best_of_them_are_left():
    space = {"x": OneOf((1, 2, 3))}
    drawn = [configuration(space, [u / 30 + 1e-3])["x"] for u in range(30)]
    assert [drawn.count(value) for value in (1, 2, 3)] == [10, 10, 10]
    best = [{"x": 3}, {"x": 1}, {"x": 1}]
    assert window(space, best)["x"] == OneOf((1, 3))
    assert window(space, [{"x": 7}])["x"] == OneOf((1, 2, 3))  # a default that is none of them
    assert mean_of(best, space) == {"x": 3}  # the best has more weight than the two behind it together
    assert mean_of([{"x": 3}, {"x": 1}, {"x": 1}, {"x": 1}][:3], space) == {"x": 3}
    assert edge(space, {"x": 1}) is None
    assert middle([{"x": 1}, {"x": 2}, {"x": 2}], space) == 1


def test_zero_is_no_edge_and_has_no_logarithm():
    assert edge({"x": Range(0, 0.2, "linear")}, {"x": 0.0}) is None
    assert edge({"x": Range(0, 0.2, "linear")}, {"x": 0.2}) == ("x", "high")
    assert edge({"x": (1e-4, 1e-1)}, {"x": 0.0}) == ("x", "low")
    assert edge({"x": Range(0.9, 0.999, "one-minus")}, {"x": 0.9985}) == ("x", "high")
    choices = [{"x": 0.0}, {"x": 1e-2}, {"x": 2e-2}]
    assert middle(choices, {"x": (1e-4, 1e-1)}) == 1


@given(st.floats(1e-6, 1.0), st.floats(1.001, 1e6))
def test_the_usual_scale_is_that_of_the_guide(low, ratio):
    assume(low * ratio < 1)
    assert usual_scale("weight_decay", low, low * ratio) == ("log" if (low * ratio) / low >= 10 else "linear")
    assert usual_scale("beta2", low, low * ratio) == "one-minus"
    assert usual_scale("momentum", low, 1.5) != "one-minus"
    assert usual_scale("warmup", 0, ratio) == "linear"


@given(st.floats(0.5, 1, exclude_max=True))
def test_what_is_shown_of_a_number_below_one_is_below_one(value):
    assume(1 - value > 1e-12)
    near = float(shown(value))
    assert near < 1 or (value > 0.9949 and near <= 1 and 1 - value < 1e-12) or near == pytest.approx(value, rel=5e-3)
    assert 1 - near == pytest.approx(1 - value, rel=0.1)
