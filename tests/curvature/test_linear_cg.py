"""Linear CG equals the book's recursion step by step, and stops where each of its rules says."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from tests.curvature.models import Matrix, case, normal, symmetric
from thalweg.curvature import Damped, GaussNewton, linear_cg


def path(a, b, steps, m=None):
    """Every iterate of preconditioned CG from zero, in book notation; m is M⁻¹ as a matrix."""
    m = torch.eye(len(b), dtype=b.dtype) if m is None else m
    x, r = torch.zeros_like(b), b
    p, found = m @ r, [x]
    for _ in range(steps):
        alpha = (r @ m @ r) / (p @ a @ p)
        x, r_next = x + alpha * p, r - alpha * (a @ p)
        beta = (r_next @ m @ r_next) / (r @ m @ r)
        r, p = r_next, m @ r_next + beta * p
        found.append(x)
    return found


def phi(a, b, x):
    return float(0.5 * x @ a @ x - b @ x)


POSITIVE = symmetric(torch.linspace(0.5, 20, 20).tolist())
B = normal(20, seed=5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 15), st.integers(0, 1000))
def test_solves_what_linalg_solves(n, seed):
    a, b = symmetric((0.1 + 10 * normal(n, seed=seed).abs()), seed), normal(n, seed=seed + 1)
    found = linear_cg(Matrix(a), b, tolerance=1e-10)
    assert found.status == "converged"
    torch.testing.assert_close(found.x, torch.linalg.solve(a, b), rtol=1e-6, atol=1e-6)
    assert found.residual <= 1e-10 * float(b.norm())
    assert float((b - a @ found.x).norm()) <= 2e-10 * float(b.norm())
    assert found.value == pytest.approx(phi(a, b, found.x))
    assert found.direction is None


def test_is_exact_after_n_steps():
    found = linear_cg(Matrix(POSITIVE), B, tolerance=0.0, max_products=20)
    before = linear_cg(Matrix(POSITIVE), B, tolerance=0.0, max_products=15)
    exact = torch.linalg.solve(POSITIVE, B)
    assert float((found.x - exact).norm()) < 1e-9 * float(exact.norm())
    assert float((before.x - exact).norm()) > 1e-5 * float(exact.norm())


@pytest.mark.parametrize("distinct", [1, 2, 4])
def test_takes_as_many_steps_as_there_are_distinct_eigenvalues(distinct):
    a = symmetric([1.0 + i % distinct for i in range(12)])
    found = linear_cg(Matrix(a), normal(12), tolerance=1e-10)
    assert (found.status, found.products) == ("converged", distinct)


@pytest.mark.parametrize("steps", [1, 2, 5, 9])
def test_stops_at_the_cap_on_the_books_path(steps):
    operator = Matrix(POSITIVE)
    found = linear_cg(operator, B, max_products=steps)
    assert (found.status, found.products, operator.products) == ("products", steps, steps)
    torch.testing.assert_close(found.x, path(POSITIVE, B, steps)[-1], rtol=1e-9, atol=1e-12)
    assert found.value == pytest.approx(phi(POSITIVE, B, found.x))
    assert found.residual == pytest.approx(float((B - POSITIVE @ found.x).norm()))


def test_no_products_at_all():
    found = linear_cg(Matrix(POSITIVE), B, max_products=0)
    assert (found.status, found.products, found.value) == ("products", 0, 0.0)
    assert not found.x.any()


def test_nothing_to_solve():
    found = linear_cg(Matrix(POSITIVE), torch.zeros(20, dtype=torch.float64))
    assert (found.status, found.products, found.residual) == ("converged", 0, 0.0)
    assert not found.x.any()


@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-6])
def test_converges_at_the_first_residual_below_the_tolerance(tolerance):
    found = linear_cg(Matrix(POSITIVE), B, tolerance=tolerance)
    residuals = [float((B - POSITIVE @ x).norm() / B.norm()) for x in path(POSITIVE, B, 20)]
    assert found.products == next(i for i, r in enumerate(residuals) if r <= tolerance)


def test_a_perfect_preconditioner_takes_one_step():
    inverse = torch.linalg.inv(POSITIVE)
    found = linear_cg(Matrix(POSITIVE), B, preconditioner=lambda r: inverse @ r)
    assert (found.status, found.products) == ("converged", 1)
    torch.testing.assert_close(found.x, inverse @ B)


def test_a_preconditioner_changes_the_path_as_the_book_says_and_shortens_it():
    scale = torch.logspace(0, 3, 20, dtype=torch.float64)
    a = scale[:, None] ** 0.5 * symmetric(torch.linspace(1, 2, 20).tolist()) * scale[None] ** 0.5
    m = torch.diag(1 / a.diagonal())
    found = linear_cg(Matrix(a), B, preconditioner=lambda r: m @ r, max_products=4)
    torch.testing.assert_close(found.x, path(a, B, 4, m)[-1], rtol=1e-8, atol=1e-12)
    jacobi, plain = linear_cg(Matrix(a), B, preconditioner=lambda r: m @ r), linear_cg(Matrix(a), B)
    assert jacobi.status == plain.status == "converged"
    assert jacobi.products < plain.products / 2


@pytest.mark.parametrize(("epsilon", "least"), [(5e-3, 101), (5e-2, 11)])  # past 100, k is 0.1 i
def test_stops_on_progress_as_martens_defines_it(epsilon, least):
    a, b = symmetric(torch.logspace(-4, 2, 150).tolist()), normal(150)
    found = linear_cg(Matrix(a), b, tolerance=0.0, progress=epsilon)
    values = [linear_cg(Matrix(a), b, tolerance=0.0, max_products=i).value for i in range(found.products + 1)]

    def stops(i):
        k = max(10, math.ceil(0.1 * i))
        return i > k and values[i] < 0 and (values[i] - values[i - k]) / values[i] < k * epsilon

    assert found.status == "progress"
    assert found.products == next(i for i in range(len(values)) if stops(i))
    assert found.products >= least


def test_without_progress_asked_for_the_same_system_goes_on():
    a, b = symmetric(torch.logspace(-4, 2, 150).tolist()), normal(150)
    few = linear_cg(Matrix(a), b, tolerance=1e-8, progress=5e-2, max_products=120)
    assert few.products < 120
    assert linear_cg(Matrix(a), b, tolerance=1e-8, max_products=120).status == "products"


def test_negative_curvature_at_once_gives_the_way_down():
    """Minimizing b = −∇J: the first direction is −∇J itself, and it stays."""
    a = symmetric([-1.0, -2.0, -3.0])
    b = normal(3)
    found = linear_cg(Matrix(a), b)
    assert (found.status, found.products) == ("negative curvature", 1)
    assert found.x.equal(b)
    assert found.direction.equal(b)
    assert found.value == pytest.approx(phi(a, b, b))
    assert found.residual == pytest.approx(float((b - a @ b).norm()))


INDEFINITE = symmetric([-1.0, *torch.linspace(1, 30, 11).tolist()])


@pytest.mark.parametrize("seed", range(4))
def test_negative_curvature_later_keeps_the_iterate_so_far(seed):
    b = normal(12, seed=seed)
    found = linear_cg(Matrix(INDEFINITE), b)
    assert found.status == "negative curvature"
    assert found.products > 1
    torch.testing.assert_close(found.x, path(INDEFINITE, b, found.products - 1)[-1], rtol=1e-7, atol=1e-10)
    p = found.direction
    assert float(p @ INDEFINITE @ p) <= 0
    assert float(p @ (b - INDEFINITE @ found.x)) > 0
    assert found.value < 0 < float(b @ found.x)


def test_damping_takes_negative_curvature_away():
    b = normal(12)
    found = linear_cg(Damped(Matrix(INDEFINITE), 1.5), b, tolerance=1e-10)
    assert found.status == "converged"
    damped = INDEFINITE + 1.5 * torch.eye(12, dtype=torch.float64)
    torch.testing.assert_close(found.x, torch.linalg.solve(damped, b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(12))
def test_flat_directions_are_no_positive_curvature(dtype, seed):
    """A is singular and b outside its range: rounding decides the sign of pᵀAp, which must not make a giant step."""
    a, b = symmetric([0.0, 0.0, 1.0, 2.0, 3.0], seed, dtype), normal(5, seed=seed, dtype=dtype)
    found = linear_cg(Matrix(a), b, tolerance=0.0)
    assert (found.status, found.products) == ("negative curvature", 4)
    assert float(found.x.norm()) < 1e4 * float(b.norm())
    assert float((a @ found.direction).norm()) < 1e-3 * float(found.direction.norm())


def test_singular_and_consistent_is_solved():
    a = symmetric([0.0, 0.0, 1.0, 2.0, 3.0])
    found = linear_cg(Matrix(a), a @ normal(5), tolerance=1e-10)
    assert (found.status, found.products) == ("converged", 3)
    torch.testing.assert_close(found.x, torch.linalg.pinv(a, rtol=1e-10) @ a @ normal(5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.9])
def test_a_small_radius_ends_on_the_boundary_of_the_path(fraction, dtype):
    exact = torch.linalg.solve(POSITIVE, B)
    radius = fraction * float(exact.norm())
    found = linear_cg(Matrix(POSITIVE.to(dtype)), B.to(dtype), radius=radius)
    assert (found.status, found.direction) == ("boundary", None)
    assert float(found.x.norm()) == pytest.approx(radius, rel=1e-4)
    points = path(POSITIVE, B, found.products)
    assert float(points[-2].norm()) < radius <= float(points[-1].norm())
    last, whole = found.x.double() - points[-2], points[-1] - points[-2]
    assert float(last @ whole) / float(last.norm() * whole.norm()) == pytest.approx(1, abs=1e-4)
    assert phi(POSITIVE, B, points[-1]) <= found.value <= phi(POSITIVE, B, points[-2])
    assert found.value == pytest.approx(phi(POSITIVE, B, found.x.double()), rel=1e-4)
    assert found.residual == pytest.approx(float((B - POSITIVE @ found.x.double()).norm()), rel=1e-3)


def test_a_wide_radius_changes_nothing():
    free, wide = linear_cg(Matrix(POSITIVE), B), linear_cg(Matrix(POSITIVE), B, radius=1e3)
    assert wide.status == "converged"
    assert wide.x.equal(free.x)


@pytest.mark.parametrize("seed", range(4))
def test_negative_curvature_with_a_radius_goes_to_the_boundary(seed):
    b = normal(12, seed=seed)
    free, found = linear_cg(Matrix(INDEFINITE), b), linear_cg(Matrix(INDEFINITE), b, radius=50.0)
    assert found.status == free.status == "negative curvature"
    assert float(found.x.norm()) == pytest.approx(50)
    assert found.value == pytest.approx(phi(INDEFINITE, b, found.x))
    assert found.value < free.value


def test_the_radius_is_in_the_preconditioners_norm():
    norms = torch.linspace(1, 9, 20, dtype=torch.float64)  # M = diag(norms)
    found = linear_cg(Matrix(POSITIVE), B, preconditioner=lambda r: r / norms, radius=0.4)
    assert found.status == "boundary"
    assert found.products > 1
    assert float((found.x**2 * norms).sum().sqrt()) == pytest.approx(0.4)


def test_a_warm_start_goes_on_from_there():
    exact = torch.linalg.solve(POSITIVE, B)
    cold = linear_cg(Matrix(POSITIVE), B, tolerance=1e-8)
    warm = linear_cg(Matrix(POSITIVE), B, x0=exact + 1e-6 * normal(20, seed=9), tolerance=1e-8)
    torch.testing.assert_close(warm.x, exact, rtol=1e-6, atol=1e-6)
    assert warm.status == "converged"
    assert warm.products < cold.products
    assert warm.value == pytest.approx(phi(POSITIVE, B, warm.x))
    done = linear_cg(Matrix(POSITIVE), B, x0=exact, tolerance=1e-8)
    assert (done.products, done.status) == (1, "converged")


def test_a_warm_start_worse_than_zero_is_dropped():
    x0 = -torch.linalg.solve(POSITIVE, B)
    assert phi(POSITIVE, B, x0) > 0
    cold, found = linear_cg(Matrix(POSITIVE), B), linear_cg(Matrix(POSITIVE), B, x0=x0)
    assert found.x.equal(cold.x)
    assert found.products == cold.products + 1


def test_a_warm_start_that_meets_negative_curvature_at_once_stays():
    a, b = torch.diag(torch.tensor([2.0, -1.0])), torch.tensor([2.0, 1.0])
    found = linear_cg(Matrix(a), b, x0=torch.tensor([1.0, 0.0]))
    assert found.status == "negative curvature"
    assert found.x.tolist() == [1.0, 0.0]
    assert found.direction.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_products_that_are_not_finite_leave_the_last_iterate(broken):
    class Breaking(Matrix):
        def _product(self, vector):
            return super()._product(vector) if self.products <= 3 else vector * broken

    found = linear_cg(Breaking(POSITIVE), B)
    assert (found.status, found.products) == ("not finite", 4)
    torch.testing.assert_close(found.x, path(POSITIVE, B, 3)[-1])
    assert found.value == pytest.approx(phi(POSITIVE, B, found.x))


def test_a_preconditioner_that_breaks_or_a_b_that_is_broken():
    calls = []

    def breaking(r):
        calls.append(1)
        return r * (1.0 if len(calls) <= 3 else math.nan)

    found = linear_cg(Matrix(POSITIVE), B, preconditioner=breaking)
    assert (found.status, found.products) == ("not finite", 3)
    torch.testing.assert_close(found.x, path(POSITIVE, B, 2)[-1])
    found = linear_cg(Matrix(POSITIVE), B * math.nan)
    assert (found.status, found.products) == ("not finite", 1)
    assert not found.x.any()


def test_float32_stays_float32_and_takes_any_b():
    found = linear_cg(Matrix(POSITIVE.float()), B, tolerance=1e-4)
    assert found.x.dtype == torch.float32
    torch.testing.assert_close(found.x.double(), torch.linalg.solve(POSITIVE, B), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_tolerance_means_rounding(dtype):
    none, least = (
        linear_cg(Matrix(POSITIVE.to(dtype)), B, tolerance=t, max_products=80) for t in (0.0, torch.finfo(dtype).eps)
    )
    assert none.status == "converged"
    assert none.products == least.products


def test_a_damped_gauss_newton_step():
    made = case("mlp")
    outputs = made.model(made.inputs)
    operator = GaussNewton(made.criterion(outputs), outputs, made.params)
    step = linear_cg(Damped(operator, 0.1), -operator.gradient, tolerance=1e-12).x
    matrix = made.gauss_newton() + 0.1 * torch.eye(operator.size, dtype=torch.float64)
    torch.testing.assert_close(step, torch.linalg.solve(matrix, -operator.gradient), rtol=1e-8, atol=1e-10)
    assert float(made.loss_at(made.flat + step)) < float(made.loss_at(made.flat))


def test_one_transfer_to_the_host_an_iteration(monkeypatch):
    transfers = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten._local_scalar_dense.default:
                transfers.append(1)
            return function(*args, **(kwargs or {}))

    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: transfers.append(1) or tolist(self))
    with Recorder():
        found = linear_cg(Matrix(POSITIVE), B, max_products=12, tolerance=0.0)
    assert found.products == 12
    assert len(transfers) == 13  # and one to begin with
