"""What is true of each method whatever the numbers."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.rules import RULES, Adam, apply, scalars_of_step
from thalweg.rules.rule import state_at_start
from thalweg.rules.schedules import SCHEDULES, Schedule

floats = st.floats(-100, 100).filter(lambda x: abs(x) > 1e-3)


def first_step(rule, g, **hyper):
    c, _ = scalars_of_step(rule, {**rule.defaults, **hyper}, 1, dict(rule.scalar_state))
    g = torch.tensor([g], dtype=torch.float64)
    θ = torch.zeros_like(g)
    return apply(rule, θ, g, state_at_start(rule, θ), c)


@given(floats)
def test_bias_correction_makes_the_first_moment_the_gradient(g):
    _, state = first_step(Adam(), g)
    s = state["exp_avg"].item()
    assert s == pytest.approx(0.1 * g)  # (1 − ρ₁) g as it stands …
    assert s / (1 - 0.9) == pytest.approx(g)  # … and g once corrected


@given(floats)
def test_first_step_of_adam_is_lr_whatever_the_gradients_size(g):
    corrected, _ = first_step(Adam(), g, lr=0.01)
    assert abs(corrected.item()) == pytest.approx(0.01, rel=1e-4)
    plain, _ = first_step(Adam(bias_correction=False), g, lr=0.01)
    assert abs(plain.item()) == pytest.approx(0.01 * 0.1 / 0.001**0.5, rel=1e-3)


@given(floats, st.sampled_from(["adagrad", "adam", "nadam", "amsgrad", "rmsprop"]))
def test_adaptive_rules_do_not_see_the_scale_of_the_loss(g, name):
    rule = RULES[name]
    small, large = (first_step(rule, scale * g, eps=0.0)[0] for scale in (1.0, 1e4))
    torch.testing.assert_close(small, large, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", RULES)
def test_zero_lr_changes_nothing_and_zero_gradient_moves_nothing_at_the_start(name):
    rule = getattr(RULES[name], "partner", RULES[name])
    assert first_step(rule, 3.0, lr=0.0)[0].item() == 0.0
    assert first_step(rule, 0.0)[0].item() == 0.0


@pytest.mark.parametrize("name", RULES)
def test_steps_are_downhill_at_first(name):
    assert first_step(RULES[name], 2.0)[0].item() < 0 < first_step(RULES[name], -2.0)[0].item()


@pytest.mark.parametrize("name", SCHEDULES)
@given(total=st.integers(1, 300))
@settings(max_examples=20)
def test_schedules_stay_in_the_unit_interval_and_never_rise_after_warm_up(name, total):
    schedule = SCHEDULES[name]
    factors = [schedule(t, total) for t in range(total)]
    assert all(0 < f <= 1 for f in factors)
    rest = factors[schedule.warmup_steps(total) :]
    assert all(a >= b for a, b in itertools.pairwise(rest))
    warming = factors[: schedule.warmup_steps(total)]
    assert all(a < b for a, b in itertools.pairwise(warming))


def test_warm_up_stable_decay_is_made_of_three_stretches():
    """As Hägele et al. 2024 have it: a linear start, a constant, and one minus a root to the floor."""
    wsd = Schedule("wsd", warmup=0.1, cooldown=0.25, floor=0.0)
    factors = [wsd(t, 200) for t in range(200)]
    assert factors[:20] == pytest.approx([(t + 1) / 20 for t in range(20)])
    assert factors[20:150] == [1.0] * 130
    assert factors[150:] == pytest.approx([1 - ((t - 150) / 50) ** 0.5 for t in range(150, 200)])
    assert wsd(200, 200) == 0.0
    assert [Schedule("wsd", cooldown=0.0)(t, 5) for t in range(5)] == [1.0] * 5


def test_schedules_are_torchs_where_torch_has_them():
    parameter = torch.nn.Parameter(torch.zeros(1))

    def torchs(make, steps):
        optimizer = torch.optim.SGD([parameter], lr=1.0)
        scheduler = make(optimizer)
        factors = []
        for _ in range(steps):
            factors.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return factors

    cosine = torchs(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 50, eta_min=0.01), 50)
    assert [Schedule("cosine")(t, 50) for t in range(50)] == pytest.approx(cosine)
    linear = torchs(lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.01, total_iters=50), 50)
    assert [Schedule("linear")(t, 50) for t in range(50)] == pytest.approx(linear)
    step = torchs(lambda o: torch.optim.lr_scheduler.StepLR(o, 20, 0.1), 60)
    assert [Schedule("step")(t, 60) for t in range(60)] == pytest.approx(step)
    for total, share in itertools.product((2, 3, 7, 50, 101), (0.0, 0.1, 0.3, 0.8)):
        cycle = torchs(
            lambda o, total=total, share=share: torch.optim.lr_scheduler.OneCycleLR(
                o, 1.0, total, pct_start=share, cycle_momentum=False
            ),
            total,
        )
        assert [Schedule("one-cycle", share)(t, total) for t in range(total)] == pytest.approx(cycle, abs=1e-12)
