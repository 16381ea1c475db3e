"""Coordinate descent of any function, against Gauss–Seidel, alternating least squares and the book's example."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.coordinate import ClosedForm, CoordinateDescent, NewtonStep, Steps, lasso


def quadratic(n=5, seed=0):
    draws = torch.Generator().manual_seed(seed)
    root = torch.randn(n, n, generator=draws, dtype=torch.float64)
    h, b = root @ root.T + 0.1 * torch.eye(n, dtype=torch.float64), torch.randn(n, generator=draws, dtype=torch.float64)
    x = torch.randn(n, generator=draws, dtype=torch.float64).requires_grad_()
    return h, b, x, lambda: 0.5 * x @ h @ x - b @ x


def test_a_cyclic_sweep_on_a_quadratic_is_gauss_seidels():
    h, b, x, f = quadratic()
    expected = x.detach().clone()
    for i in range(5):
        expected[i] += (b[i] - h[i] @ expected) / h[i, i]
    sweep = CoordinateDescent([x], coordinates=True).sweep(f)
    torch.testing.assert_close(x.detach(), expected)
    assert sweep.visited == (0, 1, 2, 3, 4)
    assert sweep.value == pytest.approx(f().item())


def test_one_block_of_all_is_newton():
    h, b, x, f = quadratic()
    found = CoordinateDescent([x]).minimize(f)
    torch.testing.assert_close(x.detach(), torch.linalg.solve(h, b))
    assert found.converged
    assert len(found.sweeps) <= 3


@pytest.mark.parametrize("alpha", [1.0, 0.1, 0.01])
def test_the_books_failure_shrinks_by_1_over_1_plus_alpha_a_visit(alpha):
    x = torch.tensor([1.0, 1.0], dtype=torch.float64, requires_grad=True)

    def f():
        return (x[0] - x[1]) ** 2 + alpha * (x**2).sum()

    descent = CoordinateDescent([x], coordinates=True)
    for sweep in range(1, 6):
        descent.sweep(f)
        assert x[1].item() == pytest.approx((1 + alpha) ** (-2 * sweep))


def test_greedy_goes_down_the_steepest_coordinate():
    h, b, x, f = quadratic()
    visited = CoordinateDescent([x], coordinates=True, order="greedy").sweep(f).visited
    _, _, y, _ = quadratic()
    y = y.detach()
    for i in visited:
        gradient = h @ y - b
        assert i == gradient.abs().argmax()
        y[i] -= gradient[i] / h[i, i]
    torch.testing.assert_close(x.detach(), y)


def test_a_random_order_is_a_permutation_by_the_generator():
    orders = []
    for _ in range(2):
        _, _, x, f = quadratic()
        descent = CoordinateDescent([x], coordinates=True, order="random", generator=torch.Generator().manual_seed(3))
        orders.append([descent.sweep(f).visited for _ in range(3)])
    assert orders[0] == orders[1]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders[0])
    assert len(set(orders[0])) > 1


def test_two_blocks_are_alternating_least_squares():
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(8, 6, generator=draws, dtype=torch.float64)
    u, v = (torch.randn(*s, generator=draws, dtype=torch.float64).requires_grad_() for s in ((8, 2), (2, 6)))
    by_newton = [t.detach().clone().requires_grad_() for t in (u, v)]
    by_formula = CoordinateDescent(
        [
            {"params": u, "minimizer": ClosedForm(lambda: torch.linalg.lstsq(v.T, x.T).solution.T)},
            {"params": [v], "minimizer": ClosedForm(lambda: [torch.linalg.lstsq(u, x).solution])},
        ]
    )
    for _ in range(4):
        one = by_formula.sweep(lambda: ((x - u @ v) ** 2).sum())
        two = CoordinateDescent(by_newton).sweep(lambda: ((x - by_newton[0] @ by_newton[1]) ** 2).sum())
        assert one.value == pytest.approx(two.value, rel=1e-9)
    found = by_formula.minimize(lambda: ((x - u @ v) ** 2).sum(), tol=1e-12)
    assert found.value == pytest.approx((torch.linalg.svdvals(x)[2:] ** 2).sum().item(), rel=1e-6)


def test_the_lasso_by_closed_forms_is_the_lasso():
    draws = torch.Generator().manual_seed(0)
    x, atoms = torch.randn(6, generator=draws).double(), torch.randn(4, 6, generator=draws).double()
    codes = [torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(4)]

    def best(j):
        rest = x - sum(c * d for i, (c, d) in enumerate(zip(codes, atoms, strict=True)) if i != j)
        return torch.nn.functional.softshrink(rest @ atoms[j], 0.5) / (atoms[j] @ atoms[j])

    def f():
        c = torch.stack(codes)
        return 0.5 * ((x - c @ atoms) ** 2).sum() + 0.5 * c.abs().sum()

    blocks = [{"params": c, "minimizer": ClosedForm(lambda j=j: best(j))} for j, c in enumerate(codes)]
    CoordinateDescent(blocks).minimize(f, tol=1e-15)
    expected = lasso(x[None], atoms, 0.5, tol=1e-12).codes[0]
    torch.testing.assert_close(torch.stack(codes).detach(), expected, atol=1e-6, rtol=0)


def test_steps_of_an_optimizer_keep_their_state():
    _, _, x, f = quadratic()
    _, _, y, g = quadratic()
    adam = torch.optim.Adam([y], lr=0.05)
    descent = CoordinateDescent([x], minimizer=Steps(lambda params: torch.optim.Adam(params, lr=0.05), 3))
    for _ in range(4):
        descent.sweep(f)
        for _ in range(3):
            adam.zero_grad()
            g().backward()
            adam.step()
    torch.testing.assert_close(x, y)
    assert x.grad is None


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    order=st.sampled_from(["cyclic", "random", "greedy"]),
    coordinates=st.booleans(),
    wild=st.booleans(),
)
def test_f_never_rises_even_if_it_is_not_convex_or_a_minimizer_is_wild(seed, order, coordinates, wild):
    draws = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(3, generator=draws, dtype=torch.float64).requires_grad_() for _ in range(2))
    minimizer = NewtonStep() if coordinates or not wild else Steps(lambda p: torch.optim.SGD(p, lr=3.0))

    def f():
        return torch.sin(3 * a * b).sum() + 0.1 * (a**4).sum() + 0.1 * (b**4).sum() + (a @ b) ** 2

    descent = CoordinateDescent([a, b], order=order, coordinates=coordinates, minimizer=minimizer, generator=draws)
    value = f().item()
    for _ in range(4):
        sweep = descent.sweep(f)
        assert sweep.value <= value
        assert sweep.value == f().item()
        value = sweep.value


@pytest.mark.parametrize(("scale", "offset"), [(1e-12, 0.0), (1e12, 0.0), (1.0, 1e3)])
def test_scale_and_offset_of_f_do_not_matter(scale, offset):
    _, _, x, f = quadratic()
    _, _, y, g = quadratic()
    plain = CoordinateDescent([x], coordinates=True).minimize(f)
    other = CoordinateDescent([y], coordinates=True).minimize(lambda: scale * g() + offset)
    assert abs(len(plain.sweeps) - len(other.sweeps)) <= 1


def crawl(x):
    return (x[0] - x[1]) ** 2 + 1e-6 * (x**2).sum()


def growth(x):
    t = torch.arange(1.0, 4.0, dtype=torch.float64)
    return ((x[0] * t + x[1]).exp() - (0.5 * t - 1).exp()).square().sum()


@pytest.mark.parametrize(
    ("f", "start", "minimizer", "converges"),
    [
        (crawl, (1e4, -1e4), None, False),  # the first visit takes nearly all of f
        (growth, (5.0, 5.0), None, True),  # f falls from 1e17
        (lambda x: ((x - 3) ** 2).sum(), (1e8, 1e8), None, True),
        (lambda x: ((x - 3) ** 2).sum(), (0.0, 0.0), Steps(lambda p: torch.optim.SGD(p, lr=3.0)), False),  # taken back
    ],
)
def test_converged_is_at_the_minimum(f, start, minimizer, converges):
    x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    descent = CoordinateDescent([x], coordinates=minimizer is None, minimizer=minimizer)
    found = descent.minimize(lambda: f(x), max_sweeps=300)
    assert found.converged == converges
    assert not converges or found.value < 1e-8


def test_a_callback_ends_it():
    _, _, x, f = quadratic()
    found = CoordinateDescent([x], coordinates=True).minimize(f, callback=lambda sweep: True)
    assert (len(found.sweeps), found.converged) == (1, False)


def test_bad_input_is_refused():
    x = torch.zeros(2, requires_grad=True)
    with pytest.raises(ValueError, match="order='up': choose cyclic"):
        CoordinateDescent([x], order="up")
    with pytest.raises(ValueError, match="a random order needs a seed"):
        CoordinateDescent([x], order="random")
    with pytest.raises(ValueError, match="there are no parameters"):
        CoordinateDescent([])
    with pytest.raises(ValueError, match="does not require a gradient"):
        CoordinateDescent([torch.zeros(2)])
    with pytest.raises(ValueError, match="in two blocks"):
        CoordinateDescent([x, x])
    with pytest.raises(ValueError, match="f is nan at the start"):
        CoordinateDescent([x]).sweep(lambda: (x / 0).sum())
    steps = Steps(lambda p: torch.optim.SGD(p, lr=0.1))
    with pytest.raises(ValueError, match="whole parameters"):
        CoordinateDescent([x], coordinates=True, minimizer=steps).sweep(lambda: (x**2).sum())
