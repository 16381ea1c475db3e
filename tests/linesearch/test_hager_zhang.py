"""Hager and Zhang's search: its steps, one by one, and the conditions where values are useless."""

import pytest

from tests.linesearch.lines import BOWL, FIRSTS, MORE_THUENTE, Counted, Smooth
from thalweg.linesearch import HagerZhang

TIGHT = HagerZhang(delta=1e-3, sigma=1e-3, max_evaluations=60)


@pytest.mark.parametrize("number", MORE_THUENTE)
@pytest.mark.parametrize("first", FIRSTS)
def test_wolfe_conditions_on_the_functions_of_more_and_thuente(number, first):
    line = Counted(MORE_THUENTE[number].smooth)
    found = HagerZhang(max_evaluations=30)(line, line.start, first)
    assert found.status == "wolfe"
    assert found.point.value <= line.start.value + 0.1 * found.point.step * line.start.slope
    assert abs(found.point.slope) <= 0.9 * abs(line.start.slope)


def steps(search, smooth, first):
    line = Counted(smooth)
    search(line, line.start, first)
    return line.steps


def test_bracket_grows_by_the_expansion_and_the_secant_then_hits():
    assert steps(TIGHT, BOWL, 0.01) == pytest.approx([0.01, 0.05, 0.25, 1.25, 1.0])


def test_step_too_long_is_cut_at_theta():
    """Beyond 0.6 it jumps up and still falls: no slope says that a minimizer was stepped over."""
    jump = Smooth(lambda a: (a - 0.5) ** 2 if a < 0.6 else 9 - a, lambda a: 2 * (a - 0.5) if a < 0.6 else -1.0)
    assert steps(TIGHT, jump, 4.0) == [4.0, 2.0, 1.0, 0.5]
    assert steps(HagerZhang(theta=0.25), jump, 4.0) == [4.0, 1.0, 0.25]


def test_second_secant_is_on_the_side_on_which_the_first_fell():
    left = Smooth(lambda a: 1.6 * a**2.5 - a, lambda a: 4 * a**1.5 - 1)
    assert steps(TIGHT, left, 1.0)[:3] == pytest.approx([1.0, 0.25, 0.5])  # through 0 and 0.25
    right = Smooth(lambda a: 1.6 * abs(1 - a) ** 2.5 + a, lambda a: 1 - 4 * abs(1 - a) ** 1.5)
    assert steps(TIGHT, right, 1.0)[:3] == pytest.approx([1.0, 0.75, 0.5])  # through 1 and 0.75


def test_interval_that_secants_hardly_cut_is_halved():
    """Slope −1, then +1e6 from 1 on: the secants creep from the left, so the middle is tried."""
    wall = Smooth(lambda a: -a if a < 1 else 1e6 * (a - 1) - 1, lambda a: -1.0 if a < 1 else 1e6)
    tried = steps(HagerZhang(sigma=0.5, max_evaluations=4), wall, 4.0)
    assert tried[0] == 4.0
    assert 0 < tried[1] < 1e-5
    assert tried[2] == pytest.approx(2.0, rel=1e-4)


def test_plateau_is_not_taken_for_an_optimum():
    """At 1000 it is level and the value that of the start: a change within ω alone would end the search."""
    line = Counted(Smooth(lambda a: 1 - a / (a * a + 2), lambda a: (a * a - 2) / (a * a + 2) ** 2))
    found = HagerZhang(omega=1e-2)(line, line.start, 1e3)
    assert found.status == "wolfe"
    assert found.point.value < 0.8
