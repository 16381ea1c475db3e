"""The weight of each point: against the sums of the book, and alike for numbers, tensors and lanes."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.averaging.points import corrected, exponential, polyak, theta, walk
from thalweg.averaging import EMA, Average, Polyak, averaged
from thalweg.tensors.tensor_list import TensorList

steps = st.integers(1, 40)
starts = st.integers(0, 12)
decays = st.floats(0, 0.9999)
KINDS = [
    Polyak(),
    Polyak(start=3),
    *(EMA(0.9, c, start=s) for c in ("bias", "warmup", "none") for s in (0, 3)),
    EMA(0.999, "warmup"),
    EMA(0.0),
]
each = pytest.mark.parametrize("kind", KINDS, ids=str)


def run(kind, count):
    """Returns the average by :class:`Average`, where the walk began, and its points."""
    w = theta([1.0, -2.0, 30.0])
    first = w.detach().clone()
    average = Average([w], kind)
    points = []
    for (point,) in walk([w], count):
        average.update()
        points.append(point)
    return average.means["0"], first, points


@given(steps, starts)
@settings(deadline=None)
def test_polyak_is_the_mean_of_the_points_after_the_start(count, start):
    mean, _, points = run(Polyak(start=start), count)
    torch.testing.assert_close(mean, polyak(points, start))


@given(steps, starts, decays)
@settings(deadline=None)
def test_the_corrected_average_is_the_weighted_mean_of_the_points_alone(count, start, decay):
    mean, _, points = run(EMA(decay, start=start), count)
    torch.testing.assert_close(mean, corrected(points[start:] or points[-1:], decay))


@given(steps, starts, decays)
@settings(deadline=None)
def test_without_correction_it_is_the_books_equation_from_where_the_average_begins(count, start, decay):
    mean, first, points = run(EMA(decay, "none", start=start), count)
    begin = first if start == 0 else points[min(start, count) - 1]
    torch.testing.assert_close(mean, exponential(begin, points[start:], decay))


@given(steps, st.sampled_from([0.5, 0.9, 0.999]))
@settings(deadline=None)
def test_warm_up_is_the_books_equation_with_a_decay_that_rises(count, decay):
    mean, first, points = run(EMA(decay, "warmup"), count)
    torch.testing.assert_close(mean, exponential(first, points, lambda t: min(decay, (1 + t) / (10 + t))))


@given(steps, decays)
def test_correction_takes_away_what_the_start_counts_for(count, decay):
    corrected_, first, _ = run(EMA(decay), count)
    plain, _, _ = run(EMA(decay, "none"), count)
    left = decay**count
    torch.testing.assert_close(left * first + (1 - left) * corrected_, plain)


@each
def test_a_constant_is_its_own_average_and_no_average_leaves_the_range_of_its_points(kind):
    constant = theta([0.1, -7.0])
    average = Average([constant], kind)
    for _ in range(20):
        average.update()
    assert torch.equal(average.means["0"], constant)
    assert all(0 < kind.weight(t) <= 1 for t in range(1, 2000))
    assert all(kind.weight(t) == 1 for t in range(1, kind.start + 1))


@each
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64])
def test_a_tensor_of_step_counts_gives_the_weights_of_the_numbers(kind, dtype):
    counts = torch.arange(0, 300, dtype=dtype)[:, None]
    weights = kind.weight(counts)
    assert weights.dtype == torch.float64
    exact = torch.tensor([[kind.weight(t)] for t in range(300)], dtype=torch.float64)
    torch.testing.assert_close(weights, exact, rtol=1e-12, atol=0)
    assert kind.weight(torch.tensor(7)).shape == ()


@each
def test_lanes_with_step_counts_of_their_own_are_so_many_averages(kind):
    lanes = [list(walk([theta([1.0, 2.0])], 10, seed)) for seed in range(4)]
    means, counts = torch.zeros(4, 2, dtype=torch.float64), torch.zeros(4, 1, dtype=torch.int64)
    places = [theta([0.0, 0.0]) for _ in range(4)]
    alone = [Average([place], kind) for place in places]
    update = torch.vmap(lambda mean, value, t: averaged(mean, value, kind.weight(t)))
    for t in range(10):
        active = torch.tensor([[t < 10 - 2 * k] for k in range(4)])
        counts += active
        values = torch.stack([lane[t][0] for lane in lanes])
        means = torch.where(active, update(means, values, counts), means)
        for k in range(4):
            if active[k]:
                with torch.no_grad():
                    places[k].copy_(values[k])
                alone[k].update()
    torch.testing.assert_close(means, torch.stack([average.means["0"] for average in alone]))


def test_one_text_serves_a_tensor_a_list_and_a_compiled_kernel():
    mean, value = torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    whole = averaged(mean, value, 0.3)
    parts = averaged(TensorList(mean.split([2, 3])), TensorList(value.split([2, 3])), 0.3)
    assert torch.equal(torch.cat(parts.tensors), whole)
    kind = EMA(0.9)
    captured = torch.compile(lambda m, v, t: averaged(m, v, kind.weight(t)), backend="aot_eager", fullgraph=True)
    for t in (1, 2, 3):
        expected = averaged(mean, value, kind.weight(t))
        torch.testing.assert_close(captured(mean, value, torch.tensor(float(t))), expected)


def test_the_tail_is_a_share_of_the_run_and_the_horizon_a_memory_in_steps():
    assert Polyak().tail(0.5, 1001).start == 501
    assert EMA(0.9, "none").tail(1.0, 10) == EMA(0.9, "none", start=0)
    assert EMA.over(50, "none", start=4) == EMA(0.98, "none", start=4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: EMA(1.0), "decay must be in [0, 1), not 1.0: EMA.over(steps) takes a number of steps"),
        (lambda: EMA(float("nan")), "decay must be in"),
        (lambda: EMA("x"), "decay must be in [0, 1), not 'x'"),
        (lambda: EMA(None), "decay must be in [0, 1), not None"),
        (lambda: EMA.over("x"), "horizon must be at least 1 step, not 'x'"),
        (lambda: Polyak().tail("x", 10), "share must be in (0, 1], not 'x'"),
        (lambda: EMA(0.9, "adam"), "unknown correction 'adam': choose bias, warmup or none"),
        (lambda: EMA.over(0.5), "horizon must be at least 1 step, not 0.5"),
        (lambda: Polyak(start=-1), "start must be a whole number of steps, at least 0, not -1"),
        (lambda: Polyak(start=0.5), "start must be a whole number of steps"),
        (lambda: Polyak().tail(0.0, 10), "share must be in (0, 1], not 0.0"),
    ],
)
def test_what_is_out_of_range_is_refused(make, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make()
