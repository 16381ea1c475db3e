"""The share admitted never falls, begins where it is told to and ends at all."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.curriculum import Pacing
from thalweg.curriculum.pacing import SHAPES

PACINGS = st.builds(
    Pacing,
    st.sampled_from(SHAPES),
    start=st.floats(1e-6, 1),
    over=st.integers(1, 300),
    power=st.floats(0.5, 5),
    jumps=st.integers(1, 10),
)


@given(PACINGS)
def test_the_share_rises_from_the_start_to_one(pacing):
    shares = [pacing(t) for t in range(pacing.over + 3)]
    assert shares[0] == pytest.approx(pacing.start)
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(shares))
    assert all(0 < share <= 1 for share in shares)
    assert shares[pacing.over :] == [1.0] * 3


def test_the_shapes_are_those_of_their_formulas():
    at = {shape: Pacing(shape, start=0.25, over=100)(50) for shape in SHAPES}
    assert at["linear"] == pytest.approx(0.625)
    assert at["root"] == pytest.approx(((0.0625 + 1) / 2) ** 0.5)
    assert at["exponential"] == pytest.approx(0.5)
    assert at["step"] == pytest.approx(0.25 + 0.75 * 2 / 4)


def test_the_exponential_share_grows_by_one_factor_and_steps_jump_so_many_times():
    shares = [Pacing("exponential", start=0.1, over=20)(t) for t in range(21)]
    assert [b / a for a, b in itertools.pairwise(shares)] == pytest.approx([10 ** (1 / 20)] * 20)
    assert len({Pacing("step", start=0.1, over=77, jumps=3)(t) for t in range(100)}) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 0.0}, "start must be in (0, 1], not 0.0: it is the share of examples admitted at first"),
        ({"start": float("nan")}, "start must be in (0, 1]"),
        ({"start": 1.5}, "start must be in (0, 1]"),
        ({"shape": "cubic"}, "unknown shape 'cubic': choose among linear, root"),
        ({"over": 0}, "give over >= 1"),
        ({"shape": "root", "power": 0.0}, "power > 0"),
        ({"jumps": 0}, "jumps >= 1"),
        ({"by": "week"}, "by must be step or epoch"),
    ],
)
def test_what_cannot_be_paced_is_refused(options, message):
    import re

    with pytest.raises(ValueError, match=re.escape(message)):
        Pacing(**options)
