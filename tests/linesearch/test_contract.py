"""What every line search keeps to, whatever the function."""

import dataclasses
import itertools
import math
import re
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.linesearch.lines import BAD, BOWL, FIRSTS, MORE_THUENTE, Counted, Smooth, broken_from, polynomial
from thalweg.linesearch import SEARCHES, Backtracking, Fixed, HagerZhang, MoreThuente, Point

CAPS = (1, 2, 3, 5, 20, 100)
WOLFE = {"more-thuente": MoreThuente(), "hager-zhang": HagerZhang()}
searches = pytest.mark.parametrize("name", SEARCHES)


def make(name, cap):
    return Fixed() if name == "fixed" else SEARCHES[name](max_evaluations=cap)


def flatter(search, **constants):
    """The search with about a tenth of the slope left at most."""
    return dataclasses.replace(
        search, **{"c2": 0.1} if isinstance(search, MoreThuente) else {"sigma": 0.11}, **constants
    )


def check(search, smooth, first):
    """Searches, and checks all that the contract says of what is found."""
    line = Counted(smooth)
    start = line.start
    found = search(line, start, first)
    point, status = found.point, found.status

    assert found.evaluations == len(line.points) <= getattr(search, "max_evaluations", 1)
    assert not line.steps or line.steps[0] == min(first, getattr(search, "longest", math.inf))
    assert all(step > 0 for step in line.steps)
    assert any(point is p for p in [start, *line.points])
    assert math.isfinite(point.value)
    assert math.isfinite(point.slope)
    good = [p for p in line.points if math.isfinite(p.value) and math.isfinite(p.slope)]
    assert (status == "not finite") == (bool(line.points) and not good)
    assert (status == "ascent") == (start.slope >= 0)
    if status in ("ascent", "not finite"):
        assert point is start
    if status in ("evaluations", "rounding"):
        assert point.value == min(p.value for p in [start, *good])
        assert (point is start) == (point.value == start.value)
    if status != "fixed":
        assert point.value <= start.value + getattr(search, "rounding", 0) * abs(start.value)
    if status != "approximate wolfe" and status != "fixed":
        assert point.value <= start.value
    c1 = getattr(search, "c1", getattr(search, "delta", None))
    c2 = getattr(search, "c2", getattr(search, "sigma", None))
    if status in ("wolfe", "armijo"):
        assert point.value <= start.value + c1 * point.step * start.slope
    if status in ("wolfe", "approximate wolfe"):
        assert abs(point.slope) <= c2 * abs(start.slope)
    if status == "approximate wolfe":
        assert (2 * c1 - 1) * start.slope >= point.slope >= c2 * start.slope
    if status == "unbounded":
        assert point.step == search.longest
        assert point.slope < 0
        assert point.value < start.value
    assert found.success == (status in ("wolfe", "approximate wolfe", "armijo", "fixed", "unbounded"))
    return found


@searches
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("first", [1e-8, 0.9, 1.0, 10.0, 1e12])
def test_bad_functions_end_with_a_status(name, bad, first):
    for cap in CAPS:
        check(make(name, cap), BAD[bad], first)


@searches
@pytest.mark.parametrize("number", MORE_THUENTE)
def test_cap_is_honoured(name, number):
    for first in FIRSTS:
        for cap in CAPS:
            check(make(name, cap), MORE_THUENTE[number].smooth, first)


@pytest.mark.parametrize("name", ["more-thuente", "hager-zhang", "backtracking"])
def test_cap_that_is_too_low_is_used_up(name):
    found = check(make(name, 7), broken_from(1e-300), 1.0)
    assert (found.status, found.evaluations) == ("not finite", 7)


ordinary = st.floats(-10, 10)
away = st.floats(0.01, 10)


@st.composite
def functions(draw):
    """Polynomials to the fourth degree and broken lines, with stretches that are not finite or jump."""
    if draw(st.booleans()):
        smooth = polynomial(draw(ordinary), -draw(away), draw(ordinary), draw(ordinary), draw(ordinary))
    else:
        knots = sorted(draw(st.lists(away, min_size=1, max_size=5, unique=True)))
        slopes = [-draw(away), *draw(st.lists(ordinary, min_size=len(knots), max_size=len(knots)))]
        bends = [after - before for before, after in itertools.pairwise(slopes)]
        smooth = Smooth(
            lambda a: slopes[0] * a + sum(b * max(0.0, a - k) for k, b in zip(knots, bends, strict=True)),
            lambda a: slopes[0] + sum(b for k, b in zip(knots, bends, strict=True) if a > k),
        )
    for _ in range(draw(st.integers(0, 2))):
        low, length = draw(away), draw(st.sampled_from([1e-3, 1.0, math.inf]))
        value = draw(st.sampled_from([math.nan, math.inf, -math.inf, 1e308, 0.0]))
        slope = draw(st.sampled_from([math.nan, math.inf, -1e308, 0.0]))
        smooth = replaced(smooth, low, low + length, value, slope)
    return smooth


def replaced(smooth, low, high, value, slope):
    return Smooth(
        lambda a: value if low <= a < high else smooth.value(a), lambda a: slope if low <= a < high else smooth.slope(a)
    )


@searches
@given(smooth=functions(), first=st.floats(1e-6, 1e6), cap=st.integers(1, 40))
@settings(max_examples=300, deadline=None)
def test_any_function_any_step_any_cap(name, smooth, first, cap):
    check(make(name, cap), smooth, first)


@searches
def test_first_step_that_will_do_costs_one_evaluation(name):
    found = check(make(name, 20), BOWL, 0.9)
    assert (found.point.step, found.evaluations, found.success) == (0.9, 1, True)


@searches
@pytest.mark.parametrize("slope", [0.0, 1e-300, 2.0])
def test_no_step_is_taken_uphill_or_on_the_level(name, slope):
    found = check(make(name, 20), polynomial(0.0, slope, -1.0), 1.0)
    assert (found.status, found.evaluations, found.success) == ("ascent", 0, False)


@searches
@pytest.mark.parametrize("first", [0.0, -1.0, math.nan])
def test_first_step_that_is_none_ends_at_the_start(name, first):
    line = Counted(BOWL)
    found = make(name, 20)(line, line.start, first)
    assert (found.point, found.status, found.evaluations) == (line.start, "rounding", 0)


@searches
def test_start_that_is_not_finite_is_no_start(name):
    start = Point(0.0, math.nan, -1.0)
    found = make(name, 20)(Counted(BOWL), start, 1.0)
    assert (found.point, found.status, found.evaluations) == (start, "not finite", 0)


@pytest.mark.parametrize("name", ["more-thuente", "hager-zhang", "backtracking"])
@pytest.mark.parametrize("wall", [0.5, 1e-3])
def test_steps_back_from_where_the_function_is_not_finite(name, wall):
    found = check(make(name, 20), broken_from(wall), 10.0)
    assert 0 < found.point.step < wall
    assert found.point.value < 1


@pytest.mark.parametrize("search", WOLFE.values(), ids=WOLFE)
def test_finds_wolfe_between_a_good_point_and_one_that_is_not_finite(search):
    found = check(search, broken_from(2.0), 1e3)
    assert found.status == "wolfe"
    assert found.evaluations <= 5


def test_goes_on_half_way_to_where_it_is_not_finite():
    line = Counted(broken_from(50.0, smooth=polynomial(0.0, -1.0, -1.0)))
    MoreThuente(max_evaluations=3)(line, line.start, 100.0)
    assert line.steps == [100.0, 10.0, 55.0]


@pytest.mark.parametrize("search", WOLFE.values(), ids=WOLFE)
@given(
    st.tuples(st.floats(-5, 5), st.floats(-10, -0.1), st.floats(-5, 5), st.floats(-5, 5), st.floats(0.1, 5)),
    st.floats(1e-3, 1e3),
)
@settings(max_examples=300, deadline=None)
def test_quartics_that_are_bounded_below_end_with_the_wolfe_conditions(search, coefficients, first):
    found = check(dataclasses.replace(search, max_evaluations=60), polynomial(*coefficients), first)
    assert found.status == "wolfe"


@pytest.mark.parametrize("search", WOLFE.values(), ids=WOLFE)
def test_falls_for_ever_to_the_longest_step(search):
    line = polynomial(3.0, -1.0)
    found = check(search, line, 1.0)
    assert (found.status, found.point.step, found.success) == ("unbounded", 1e10, True)
    assert found.evaluations <= 20
    found = check(dataclasses.replace(search, longest=7.0), line, 100.0)
    assert (found.status, found.point.step, found.evaluations) == ("unbounded", 7.0, 1)


@pytest.mark.parametrize("search", WOLFE.values(), ids=WOLFE)
def test_longest_step_that_falls_without_lowering_the_value_is_tried_once(search):
    found = check(dataclasses.replace(search, longest=7.0), BAD["almost flat"], 100.0)
    assert (found.status, found.point.step, found.evaluations) == ("rounding", 0.0, 1)


@pytest.mark.parametrize("search", [MoreThuente(c1=0.2, longest=10.0), HagerZhang(delta=0.2, longest=10.0)], ids=WOLFE)
@pytest.mark.parametrize(
    "smooth",
    [
        Smooth(lambda a: 1 / (1 + a), lambda a: -1 / (1 + a) ** 2),
        Smooth(lambda a: -min(a, 0.5) - max(0.0, a - 9), lambda a: 0.0 if 0.5 < a < 9 else -1.0),
    ],
    ids=["levels off", "level, then falls"],
)
def test_longest_step_with_too_little_decrease_is_stepped_back_from(search, smooth):
    found = check(search, smooth, 10.0)
    assert found.status == "wolfe"
    assert found.point.step < 9


@pytest.mark.parametrize("search", WOLFE.values(), ids=WOLFE)
def test_rise_beyond_rounding_is_refused(search):
    line = Smooth(lambda a: 1 - 1e-8 * a if a < 0.5 else 1 + 1e-7, lambda a: -1e-8 if a < 0.25 else -5e-9)
    found = check(search, line, 1.0)
    assert found.status == "wolfe"
    assert found.point.value < 1


@pytest.mark.parametrize("search", WOLFE.values(), ids=WOLFE)
@pytest.mark.parametrize("bad", ["kink", "jump up", "NaN beyond 0.5", "infinite beyond 1e-3"])
def test_ends_by_itself_where_no_step_will_do(search, bad):
    found = check(flatter(search, max_evaluations=5000), BAD[bad], 1.0)
    assert found.status == "rounding"
    assert found.evaluations < 200
    assert found.point.step == pytest.approx({"kink": 0.3, "jump up": 0.7}.get(bad, found.point.step))


@pytest.mark.parametrize("search", WOLFE.values(), ids=WOLFE)
def test_values_that_almost_overflow(search):
    found = check(search, Smooth(lambda a: 5e307 * (a - 1) ** 2, lambda a: 1e308 * (a - 1)), 2.5)
    assert (found.status, found.evaluations) == ("wolfe", 2)


class Gradient:
    """Stands for a large tensor."""


@searches
def test_only_the_lowest_points_payload_is_kept(name):
    alive, most = weakref.WeakSet(), []

    def keeping(smooth):
        def line(step):
            most.append(len(alive))
            payload = Gradient()
            alive.add(payload)
            return Point(step, smooth.value(step), smooth.slope(step), payload)

        return line

    cases = [(MORE_THUENTE[2].smooth, 1e-1), (MORE_THUENTE[3].smooth, 10.0), (BAD["jump up"], 1e3)]
    for smooth, first in [*cases, (BAD["wrong slope"], 1.0), (BAD["falls for ever"], 1.0)]:
        found = make(name, 20)(keeping(smooth), Point(0.0, smooth.value(0.0), smooth.slope(0.0)), first)
        assert len(alive) == (found.point.payload is not None)
        del found
        assert not alive
    assert max(most) <= 1
    assert name == "fixed" or len(most) > 20


def hidden(step):
    """1 + 1e-18 (α − 1)²: in float64 it is 1, and rounding that comes and goes with α adds up to 4 units."""
    units = round(1e6 * math.sin(1e4 * step)) % 5
    return Point(step, 1.0 + units * 2.0**-52, 2e-18 * (step - 1))


@pytest.mark.parametrize("search", WOLFE.values(), ids=WOLFE)
@pytest.mark.parametrize("first", [0.01, 0.03, 0.9, 1.5, 3.0, 30.0])
def test_slopes_lead_where_rounding_hides_the_decrease(search, first):
    start = hidden(0.0)
    found = flatter(search)(hidden, start, first)
    assert found.status in ("wolfe", "approximate wolfe")
    assert found.point.step == pytest.approx(1, abs=0.11)
    assert found.evaluations <= 6


@pytest.mark.parametrize("search", [MoreThuente(c1=0.1), HagerZhang(delta=0.1)], ids=WOLFE)
def test_slope_must_show_enough_decrease_where_rounding_hides_it(search):
    found = search(hidden, hidden(0.0), 1.85)  # 0.85 of the slope is left, which is flat enough, but above 1 − 2 c1
    assert found.status in ("wolfe", "approximate wolfe")
    assert found.point.slope <= 0.8 * abs(hidden(0.0).slope)
    assert found.evaluations > 1


def test_slopes_tell_no_more_than_rounding_hides():
    """The value stays 1 to 4.5 and then falls to 40; by the slope alone, 1 would seem lower than 5."""
    line = Smooth(lambda a: 1 - 1e-12 * max(0.0, 35.5 - abs(a - 40)), lambda a: math.copysign(1e-12, a - 40))
    found = check(MoreThuente(c2=0.1), line, 1.0)
    assert found.point.step == pytest.approx(40, rel=0.2)


def test_values_alone_do_not_lead_there():
    ends = [MoreThuente(c2=0.1, rounding=0.0)(hidden, hidden(0.0), first) for first in (0.01, 0.03, 1.5, 3.0, 30.0)]
    assert not all(found.success for found in ends)


@pytest.mark.parametrize("search", WOLFE.values(), ids=WOLFE)
@pytest.mark.parametrize("change", [1e-3, 1e-5, 0.0])
def test_real_decrease_is_not_given_away(search, change):
    """At 1 the slope would do and the value has hardly changed; the minimum, far lower, is nearer."""
    line = Smooth(
        lambda a: 1 - a + a * a if a < 0.75 else 1 - change,
        lambda a: 2 * a - 1 if a < 0.75 else 1e-3,
    )
    found = check(dataclasses.replace(search, **({"c1": 0.1} if isinstance(search, MoreThuente) else {})), line, 1.0)
    assert found.status == "wolfe"
    assert found.point.value < 0.9


@pytest.mark.parametrize(
    ("make_it", "mend"),
    [
        (lambda: MoreThuente(c1=0.5), "0 < c1 < 0.5"),
        (lambda: MoreThuente(c1=0.2, c2=0.1), "c1 <= c2 < 1"),
        (lambda: MoreThuente(c2=1.0), "c1 <= c2 < 1"),
        (lambda: MoreThuente(max_evaluations=0), "at least 1"),
        (lambda: MoreThuente(longest=math.inf), "finite step > 0"),
        (lambda: MoreThuente(rounding=-1.0), "in [0, 1)"),
        (lambda: HagerZhang(delta=0.5), "0 < delta < 0.5"),
        (lambda: HagerZhang(sigma=0.05), "delta <= sigma < 1"),
        (lambda: HagerZhang(theta=1.0), "both in (0, 1)"),
        (lambda: HagerZhang(gamma=0.0), "both in (0, 1)"),
        (lambda: HagerZhang(expansion=1.0), "factor > 1"),
        (lambda: HagerZhang(max_evaluations=0), "at least 1"),
        (lambda: HagerZhang(longest=0.0), "finite step > 0"),
        (lambda: HagerZhang(rounding=1e-3), "rounding <= omega"),
        (lambda: Backtracking(c1=0.0), "in (0, 1)"),
        (lambda: Backtracking(shrink=(0.5, 0.1)), "least <= most < 1"),
        (lambda: Backtracking(max_evaluations=0), "at least 1"),
    ],
)
def test_constants_that_cannot_be_are_refused_with_what_to_give(make_it, mend):
    with pytest.raises(ValueError, match=re.escape(mend)):
        make_it()


@searches
def test_searches_are_values(name):
    assert SEARCHES[name]() == SEARCHES[name]()
    field = next((f.name for f in dataclasses.fields(SEARCHES[name])), "c1")
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(SEARCHES[name](), field, 0.5)
