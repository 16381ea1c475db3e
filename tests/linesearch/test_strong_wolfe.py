"""Moré and Thuente's search against their tables and against scipy's translation of their Fortran."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import line_search, rosen, rosen_der
from scipy.optimize._dcsrch import DCSRCH

from tests.linesearch.lines import BAD, FIRSTS, MORE_THUENTE, Counted, Smooth, polynomial
from thalweg.linesearch import HagerZhang, MoreThuente, Point


@pytest.mark.parametrize("number", MORE_THUENTE)
def test_evaluations_are_those_published(number):
    case = MORE_THUENTE[number]
    search = MoreThuente(c1=case.c1, c2=case.c2)
    counts = []
    for first in FIRSTS:
        line = Counted(case.smooth)
        found = search(line, line.start, first)
        assert found.status == "wolfe"
        assert found.point.value <= line.start.value + case.c1 * found.point.step * line.start.slope
        assert abs(found.point.slope) <= case.c2 * abs(line.start.slope)
        counts.append(found.evaluations)
    assert tuple(counts) == case.evaluations


def user_errors(smooth, c1, c2, first, longest):
    """The steps that scipy's DCSRCH tries, and whether it converged."""
    line = Counted(smooth)
    search = DCSRCH(lambda a: line(float(a)).value, smooth.slope, c1, c2, 1e-15, 0.0, longest)
    task = search(first, line.start.value, line.start.slope, maxiter=60)[-1]
    return line.steps, task.startswith(b"CONV")


@pytest.mark.parametrize("number", MORE_THUENTE)
@pytest.mark.parametrize("first", FIRSTS)
def test_steps_are_dcsrchs(number, first):
    case, line = MORE_THUENTE[number], Counted(MORE_THUENTE[number].smooth)
    MoreThuente(c1=case.c1, c2=case.c2)(line, line.start, first)
    steps, converged = user_errors(case.smooth, case.c1, case.c2, first, 1e10)
    assert converged
    assert line.steps == pytest.approx(steps, rel=1e-9)


number = st.floats(-5, 5).map(lambda x: round(x, 3))


@given(
    coefficients=st.tuples(number, st.floats(-10, -0.1), number, number, number),
    first=st.floats(1e-3, 1e3),
    c2=st.sampled_from([0.9, 0.1, 1e-3]),
)
@settings(max_examples=500, deadline=None, derandomize=True)  # there are quartics that magnify rounding without bound
def test_steps_are_dcsrchs_on_any_quartic(coefficients, first, c2):
    smooth = polynomial(*coefficients)
    line = Counted(smooth)
    found = MoreThuente(c2=c2, rounding=0.0, max_evaluations=60, longest=1e4)(line, line.start, first)
    steps, converged = user_errors(smooth, 1e-4, c2, first, 1e4)
    assert converged == (found.status == "wolfe")
    if converged:
        assert line.steps == pytest.approx(steps, rel=1e-6)


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.floats(0.2, 1e3))
def test_quadratics_take_two_evaluations(curvature, minimizer, share):
    line = Counted(polynomial(0.0, -curvature * minimizer, curvature / 2))
    found = MoreThuente(c2=1e-3)(line, line.start, share * minimizer)
    assert found.status == "wolfe"
    assert found.evaluations <= 2
    assert found.evaluations == 1 or found.point.step == pytest.approx(minimizer)


@pytest.mark.parametrize("first", [0.1, 1.0, 3.0])
def test_decrease_that_rounding_leaves_visible_is_seen(first):
    """Function 1 as a ripple of 1e-11 on 1: c1 asks for less than rounding, but the decrease is a thousand times it."""
    plain = MORE_THUENTE[1].smooth
    ripple = Smooth(lambda a: 1 + 1e-11 * plain.value(a), lambda a: 1e-11 * plain.slope(a))
    lines = [Counted(smooth) for smooth in (plain, ripple)]
    for line in lines:
        assert MoreThuente(c2=0.01)(line, line.start, first).status == "wolfe"
    assert len(lines[0].steps) > 2
    assert lines[1].steps == pytest.approx(lines[0].steps, rel=1e-2)


@pytest.mark.parametrize("first", [100.0, 600.0])
def test_explosion_is_stepped_back_from(first):
    """exp(α) − 2 α: at 100 it is 1e43, and the interpolants' minimizers are 0 but for rounding."""
    line = Counted(BAD["exponential"])
    found = MoreThuente(c2=0.1)(line, line.start, first)
    assert found.status == "wolfe"
    assert line.steps[1] == pytest.approx(first / 10)
    assert found.evaluations <= 9


@pytest.mark.parametrize(("search", "c1"), [(MoreThuente(), 1e-4), (HagerZhang(), 0.1)])
def test_against_scipys_wolfe_search_on_rosenbrocks_function(search, c1):
    """From 50 points downhill: at least as many ends with the Wolfe conditions, with fewer evaluations."""
    rng = np.random.default_rng(0)
    ours = scipys = ours_met = scipys_met = 0
    for _ in range(50):
        x = rng.uniform(-2, 2, size=4)
        d = -rosen_der(x)
        alpha, values, *_ = line_search(rosen, rosen_der, x, d, gfk=-d, c1=c1, c2=0.9, maxiter=20)
        scipys += values
        scipys_met += alpha is not None

        def phi(a, x=x, d=d):
            return Point(a, float(rosen(x + a * d)), float(rosen_der(x + a * d) @ d))

        found = search(phi, phi(0.0), 1.0)
        ours += found.evaluations
        ours_met += found.status == "wolfe"
    assert ours_met >= scipys_met > 40
    assert ours <= scipys
