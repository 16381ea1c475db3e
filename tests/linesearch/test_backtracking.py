"""Backtracking: its interpolation against polynomials it must hit, and its bounds."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.linesearch.lines import BOWL, Counted, Smooth, broken_from, polynomial
from thalweg.linesearch import Backtracking


def steps(search, smooth, first):
    line = Counted(smooth)
    search(line, line.start, first)
    return line.steps


def test_quadratic_is_hit_where_its_minimizer_is_within_the_bounds():
    assert steps(Backtracking(), BOWL, 5.0) == [5.0, 1.0]
    assert steps(Backtracking(), BOWL, 2.1) == [2.1, pytest.approx(1.0)]


def test_steps_are_kept_within_the_bounds():
    assert steps(Backtracking(), BOWL, 50.0) == [50.0, 5.0, pytest.approx(1.0)]
    assert steps(Backtracking(shrink=(0.5, 0.5)), BOWL, 16.0) == [16.0, 8.0, 4.0, 2.0, 1.0]
    assert steps(Backtracking(shrink=(0.2, 0.2)), BOWL, 25.0) == [25.0, 5.0, 1.0]


@given(st.floats(-0.4, 2.0), st.floats(0.1, 10.0), st.floats(0.1, 3.0))
def test_cubic_is_hit_by_the_third_step(cubed, squared, slope):
    """Two refused values and the start determine the cubic 7 − s α + b α² + a α³."""
    tried = steps(Backtracking(c1=0.99), polynomial(7.0, -slope, squared, cubed), 1.0)
    discriminant = squared**2 + 3 * cubed * slope
    assume(len(tried) > 2 and discriminant > 0)
    minimizer = slope / (squared + math.sqrt(discriminant))
    assert tried[2] == pytest.approx(min(0.5 * tried[1], max(0.1 * tried[1], minimizer)), rel=1e-6)


def test_least_share_is_taken_from_where_it_is_not_finite():
    assert steps(Backtracking(), broken_from(2.0), 100.0) == pytest.approx([100.0, 10.0, 1.0])
    assert steps(Backtracking(), broken_from(20.0), 60.0) == pytest.approx([60.0, 6.0, 1.0])
    assert steps(Backtracking(), broken_from(2.0, -math.inf), 100.0) == pytest.approx([100.0, 10.0, 1.0])


def test_slope_of_a_trial_is_not_used():
    def smooth(sign):
        return Smooth(BOWL.value, lambda a: BOWL.slope(a) if a == 0 else sign * 3.0)

    assert steps(Backtracking(), smooth(1), 50.0) == steps(Backtracking(), smooth(-1), 50.0)


def test_ends_where_rounding_would_swallow_the_decrease():
    """Rises whichever way: no step will do, and 1 − 1e-15 α is 1 from α = 0.05 on."""
    line = Counted(Smooth(lambda a: 1.0 + (a > 0), lambda a: -1e-15))
    found = Backtracking()(line, line.start, 1.0)
    assert (found.point, found.status) == (line.start, "rounding")
    assert found.evaluations == 2
