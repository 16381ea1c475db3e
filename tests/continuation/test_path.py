"""The way in t: fixed, or when a cost has stopped falling; and the objective that follows it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from thalweg.continuation import Adaptive, Continuation, Falling, Fixed, GaussianSmoothing


@given(st.integers(1, 200), st.one_of(st.none(), st.integers(1, 50)))
def test_fixed_steps_rise_evenly_from_0_to_1(steps, levels):
    ts = [Fixed(steps, levels).t(step) for step in range(steps + 2)]
    assert ts == sorted(ts)
    assert ts[0] == 0
    assert ts[steps:] == [1.0, 1.0]
    assert len(set(ts)) == min(levels or steps, steps) + 1
    if levels and steps % levels == 0:
        assert all(ts.count(k / levels) == steps // levels for k in range(levels))


def follow(path, losses):
    """Returns t at each step."""
    ts = []
    for step, loss in enumerate(losses):
        ts.append(path.t(step))
        path.observe(step, torch.as_tensor(loss))
    return ts


def noise(count, seed=0, tails=False):
    source = torch.Generator().manual_seed(seed)
    draws = torch.randn(count, generator=source, dtype=torch.float64)
    return draws / torch.randn(count, generator=source).abs() if tails else draws  # Cauchy: no mean, no variance


@pytest.mark.parametrize("tails", [False, True])
def test_a_level_cost_is_left_whatever_its_noise(tails):
    left = sum(follow(Adaptive(1, 20), noise(21, seed, tails))[-1] == 1 for seed in range(200))
    assert 0.95 * 200 - left <= 4 * (0.95 * 0.05 * 200) ** 0.5


@pytest.mark.parametrize(("window", "low", "high"), [(100, 0.8, 0.97), (50, 0.15, 0.4)])
def test_a_slow_fall_is_noticed_in_a_large_window(window, low, high):
    falls = -0.01 * torch.arange(window + 1)
    stayed = sum(follow(Adaptive(1, window), noise(window + 1, seed) + falls)[-1] == 0 for seed in range(300))
    assert low < stayed / 300 < high


def test_a_falling_cost_is_stayed_with_until_it_is_level():
    losses = torch.cat([10 - 0.1 * torch.arange(100), torch.zeros(100)]) + 0.3 * noise(200)
    ts = follow(Adaptive(levels=2, window=25), losses)
    assert set(ts[:101]) == {0.0}
    assert ts[-1] == 1.0


@given(st.floats(-1e3, 1e3), st.floats(1e-6, 1e6))
def test_scale_and_origin_of_the_cost_do_not_count(origin, scale):
    losses = torch.exp(-torch.arange(60) / 8).double() + 0.05 * noise(60)
    assert follow(Adaptive(5, 10), losses) == follow(Adaptive(5, 10), origin + scale * losses)


def test_outliers_and_divergence_do_not_hold_it_up():
    ends = torch.tensor([math.nan, math.inf], dtype=torch.float64).repeat(10)
    assert follow(Adaptive(1, 10), torch.cat([ends, ends]))[-1] == 1.0


def test_a_level_ends_after_as_many_steps_as_allowed():
    ts = follow(Adaptive(levels=3, window=10, most=25), -torch.arange(100.0))
    assert [ts.count(k / 3) for k in range(4)] == [25, 25, 25, 25]


def test_several_evaluations_in_a_step_count_once_and_see_one_t():
    one, many = Adaptive(3, 10), Adaptive(3, 10)
    for step, loss in enumerate(noise(60)):
        ts = set()
        for extra in range(3):
            ts.add(many.t(step))
            many.observe(step, loss + extra)
        assert ts == {one.t(step)}
        one.observe(step, loss)


@pytest.mark.parametrize("stop", [0, 7, 25, 42])
def test_it_goes_on_where_it_was(stop):
    class Point(nn.Module):
        def __init__(self):
            super().__init__()
            self.x = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

    def objective():
        family = GaussianSmoothing(
            lambda p, b: p.x**2 + p.x.cos(), Falling(1.0, 0.1), generator=torch.Generator().manual_seed(0)
        )
        return Continuation(family, Adaptive(4, 8))

    def descend(point, cost, steps):
        found = []
        for step in steps:
            loss = cost(point, None, step)
            (gradient,) = torch.autograd.grad(loss, point.x)
            with torch.no_grad():
                point.x -= 0.1 * gradient
            found.append((cost.t, loss.item()))
        return found

    point, cost = Point(), objective()
    descend(point, cost, range(stop))
    state, x = cost.state_dict(), point.x.detach().clone()
    expected = descend(point, cost, range(stop, 80))
    other, again = Point(), objective()
    again.load_state_dict(state)
    with torch.no_grad():
        other.x.copy_(x)
    assert descend(other, again, range(stop, 80)) == expected
    assert expected[-1][0] == 1.0


def test_any_function_is_a_family():
    objective = Continuation(lambda model, batch, t: (1 - t) * model + t * batch, Fixed(4, 2))
    values = [objective(torch.tensor(0.0), torch.tensor(1.0), step).item() for step in range(5)]
    assert values == [0.0, 0.0, 0.5, 0.5, 1.0]
    assert objective.t == 1.0
    assert objective.state_dict() == {}


def test_the_state_of_another_continuation_is_refused():
    fixed, adaptive = (Continuation(lambda m, b, t: m, path) for path in (Fixed(5), Adaptive()))
    with pytest.raises(ValueError, match=r"the state is of another continuation: it has \['path'\], not \[\]"):
        fixed.load_state_dict(adaptive.state_dict())


@pytest.mark.parametrize(
    "options", [{"levels": 0}, {"window": 7}, {"alpha": 0.0}, {"alpha": 1.0}, {"most": 0}], ids=str
)
def test_paths_that_lead_nowhere_are_refused(options):
    with pytest.raises(ValueError, match="give levels >= 1, window >= 8"):
        Adaptive(**options)


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": 5, "levels": 0}], ids=str)
def test_a_fixed_path_has_steps_and_levels(options):
    with pytest.raises(ValueError, match="give at least 1 of each"):
        Fixed(**options)
