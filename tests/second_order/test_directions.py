"""Directions against the book's formulas, written slowly in float64."""

import math

import pytest
import torch

from thalweg.second_order import (
    BETAS,
    BFGS,
    LBFGS,
    ConjugateGradient,
    FunctionObjective,
    Limits,
    descend,
    search_for,
)


def quadratic(n, seed=0, condition=100.0):
    g = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=g))
    a = q @ torch.diag(torch.logspace(0, math.log10(condition), n, dtype=torch.float64)) @ q.T
    return (a + a.T) / 2, torch.randn(n, dtype=torch.float64, generator=g)


def prepared(direction, n):
    direction.prepare(torch.zeros(n, dtype=torch.float64))
    return direction


def pairs_of(n, count, seed=1):
    """Steps, changes of the gradient, and gradients before and after, of a random walk on a convex quadratic."""
    a, x = quadratic(n, seed)
    g = torch.Generator().manual_seed(seed + 1)
    walk, after = [], a @ x
    for _ in range(count):
        s = torch.randn(n, dtype=torch.float64, generator=g)
        before, after, x = after, a @ (x + s), x + s
        walk.append((s, after - before, before, after))
    return walk


def bfgs_inverse(M, s, y):
    ρ = 1 / (s @ y)
    eye = torch.eye(len(s), dtype=s.dtype)
    return (eye - ρ * torch.outer(s, y)) @ M @ (eye - ρ * torch.outer(y, s)) + ρ * torch.outer(s, s)


def test_bfgs_is_the_rank_two_formula():
    walk, direction, M = pairs_of(6, 5), prepared(BFGS(), 6), None
    for s, y, before, g in walk:
        direction(before)
        direction.learn(s, 1.0, before, g)
        M = torch.eye(6, dtype=s.dtype) * (s @ y) / (y @ y) if M is None else M
        M = bfgs_inverse(M, s, y)
        torch.testing.assert_close(direction.inverse, M, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(direction(g), -M @ g, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("memory", [1, 3, 10])
@pytest.mark.parametrize("ask", [True, False], ids=["asked between pairs", "pairs alone"])
def test_lbfgs_is_bfgs_from_the_last_pairs(memory, ask):
    n = 12
    direction = prepared(LBFGS(memory), n)
    walk = pairs_of(n, 8)
    for i, (s, y, before, g) in enumerate(walk, start=1):
        if ask:
            direction(before)
        direction.learn(s, 1.0, before, g)
        kept = walk[max(0, i - memory) : i]
        M = torch.eye(n, dtype=torch.float64) * (s @ y) / (y @ y)
        for s_, y_, _, _ in kept:
            M = bfgs_inverse(M, s_, y_)
        torch.testing.assert_close(direction(g), -M @ g, rtol=1e-8, atol=1e-9)
        other = torch.arange(float(n), dtype=torch.float64)  # a gradient that is not the walk's: another minibatch
        torch.testing.assert_close(direction(other), -M @ other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("make", [BFGS, LBFGS])
def test_a_pair_without_curvature_is_skipped(make):
    direction, s = prepared(make(), 2), torch.tensor([1.0, 0.0], dtype=torch.float64)
    direction.learn(s, 1.0, s, -s)
    assert direction.fresh
    direction.learn(s, 1.0, -s, s)
    before = direction(s)
    direction.learn(s, 1.0, s, s)
    torch.testing.assert_close(direction(s), before, rtol=0, atol=0)


def test_powells_damping_keeps_a_bad_pair_usable():
    direction, s = prepared(LBFGS(damping=0.2), 2), torch.tensor([1.0, 0.0], dtype=torch.float64)
    direction.learn(s, 1.0, -s, s)
    direction.learn(s, 1.0, s, -s)
    assert direction.pairs == 2
    g = torch.tensor([0.3, -1.0], dtype=torch.float64)
    assert direction(g) @ g < 0


@pytest.mark.parametrize("beta", BETAS)
def test_conjugate_gradients_on_a_quadratic_with_exact_steps_are_linear_cg(beta):
    n = 8
    a, b = quadratic(n, seed=3, condition=20.0)
    direction, x, old = prepared(ConjugateGradient(beta, math.inf), n), torch.zeros(n, dtype=torch.float64), []
    g = a @ x - b
    for _ in range(n):
        d = direction(g)
        for before in old:  # conjugate to all that came before
            assert abs(d @ a @ before) < 1e-6 * math.sqrt((d @ a @ d) * (before @ a @ before))
        step = -(g @ d) / (d @ a @ d)
        x, after = x + step * d, g + step * (a @ d)
        direction.learn(d, step, g, after)
        g = after
        old.append(d)
    torch.testing.assert_close(x, torch.linalg.solve(a, b), rtol=1e-7, atol=1e-8)


def test_formulas_of_beta():
    before, d_before, g = (torch.tensor(v, dtype=torch.float64) for v in ([1.0, 2.0], [-1.0, -2.0], [0.5, -1.0]))
    y = g - before
    expected = {
        "fletcher_reeves": (g @ g) / (before @ before),
        "polak_ribiere": (g @ y) / (before @ before),
        "polak_ribiere_plus": max(0.0, (g @ y) / (before @ before)),
        "hestenes_stiefel": (g @ y) / (d_before @ y),
        "dai_yuan": (g @ g) / (d_before @ y),
        "hager_zhang": (y - 2 * d_before * (y @ y) / (d_before @ y)) @ g / (d_before @ y),
    }
    for beta, value in expected.items():
        direction = prepared(ConjugateGradient(beta, orthogonality=math.inf), 2)
        torch.testing.assert_close(direction(before), d_before)
        direction.learn(d_before, 1.0, before, g)
        torch.testing.assert_close(direction(g), -g + value * d_before)


def test_it_begins_anew_after_so_many_steps_and_when_gradients_are_far_from_orthogonal():
    g = torch.tensor([1.0, 1.0], dtype=torch.float64)
    for direction in (ConjugateGradient(every=1), ConjugateGradient("fletcher_reeves", orthogonality=0.2)):
        prepared(direction, 2)
        direction(g)
        direction.learn(g, 1.0, g, g)
        torch.testing.assert_close(direction(2 * g), -2 * g)
    with pytest.raises(ValueError, match="unknown beta 'polak': choose among fletcher_reeves"):
        ConjugateGradient("polak")


@pytest.mark.parametrize("make", [BFGS, lambda: LBFGS(4), ConjugateGradient])
def test_state_carries_all_that_the_rest_depends_on(make):
    walk, one, two = pairs_of(7, 12), prepared(make(), 7), prepared(make(), 7)
    for s, _, before, g in walk[:6]:
        one(before)
        one.learn(s, 1.0, before, g)
    two.load({name: value.clone() for name, value in one.state().items()})
    for s, _, before, g in walk[6:]:
        torch.testing.assert_close(one(before), two(before), rtol=1e-9, atol=1e-9)
        one.learn(s, 1.0, before, g)
        two.learn(s, 1.0, before, g)
    one.reset()
    assert one.fresh


def test_bfgs_multiplies_no_two_large_matrices():
    """A product of two would be 2 n³ operations."""
    from torch.utils.flop_counter import FlopCounterMode

    n = 64
    direction, walk = prepared(BFGS(), n), pairs_of(n, 2)
    with FlopCounterMode(display=False) as counter:
        for s, _, before, g in walk:
            direction(before)
            direction.learn(s, 1.0, before, g)
    assert counter.get_total_flops() < n**3


def test_numbers_that_go_to_the_host_do_not_grow_with_the_memory(monkeypatch):
    """On a GPU each is a synchronization."""
    a, b = quadratic(40, condition=1e4)
    counts = {}
    for memory in (2, 30):
        transfers = []
        for name in ("tolist", "item", "__float__", "__bool__", "__int__"):
            real = getattr(torch.Tensor, name)
            monkeypatch.setattr(
                torch.Tensor, name, lambda self, real=real, transfers=transfers: transfers.append(1) or real(self)
            )
        objective = FunctionObjective(lambda x: 0.5 * x @ a @ x - b @ x)
        start = torch.zeros(40, dtype=torch.float64)
        report = descend(
            objective, start, LBFGS(memory), search_for("more-thuente", start.dtype), Limits(iterations=20)
        )
        counts[memory] = len(transfers) - objective.evaluations, report.iterations  # one an evaluation, by the search
        monkeypatch.undo()
    assert counts[2][1] == counts[30][1] == 20
    assert counts[2][0] == counts[30][0] <= 3 * 20
