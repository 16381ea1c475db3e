"""Lanczos, the spectrum's ends and its density against the eigenvalues themselves."""

import math

import pytest
import torch

from tests.curvature.models import Matrix, case, draws, normal, symmetric
from thalweg.curvature import Hessian, extreme_eigenvalues, lanczos, spectral_density

EIGENVALUES = torch.cat([torch.tensor([-7.0, 12.0]), torch.linspace(-1, 2, 58)]).sort().values.double()
A = symmetric(EIGENVALUES)


@pytest.mark.parametrize("steps", [1, 2, 7, 30])
def test_lanczos_projects_the_matrix(steps):
    start = normal(60)
    found = lanczos(Matrix(A), start, steps)
    q, t = found.basis.T, torch.diag(found.diagonal)
    t = t + torch.diag(found.off_diagonal, 1) + torch.diag(found.off_diagonal, -1)
    assert found.basis.shape == (steps, 60)
    torch.testing.assert_close(q.T @ q, torch.eye(steps).double(), rtol=0, atol=1e-13)
    torch.testing.assert_close(q[:, 0], start / start.norm())
    torch.testing.assert_close(q.T @ A @ q, t, rtol=0, atol=1e-12)
    left = A @ q - q @ t
    assert found.residual == pytest.approx(float(left.norm()))
    assert float(left[:, :-1].norm()) < 1e-12


def test_lanczos_stays_orthogonal_where_eigenvalues_fall_fast():
    """Each product is then almost in the basis already; orthogonalizing once leaves what is mostly rounding."""
    found = lanczos(Matrix(symmetric(torch.logspace(-12, 0, 40))), normal(40), 40)
    identity = torch.eye(len(found.basis), dtype=torch.float64)
    torch.testing.assert_close(found.basis @ found.basis.T, identity, rtol=0, atol=1e-13)


def test_lanczos_in_full_finds_every_eigenvalue():
    found = lanczos(Matrix(A), normal(60), 100)
    assert len(found.diagonal) == 60
    torch.testing.assert_close(found.eigh()[0], EIGENVALUES, rtol=0, atol=1e-11)


def test_lanczos_stays_orthogonal_in_float32():
    """Without reorthogonalization the basis is lost as soon as the outer eigenvalues have converged."""
    found = lanczos(Matrix(A.float()), normal(60), 50)
    torch.testing.assert_close(found.basis @ found.basis.T, torch.eye(50), rtol=0, atol=1e-5)
    assert float(found.eigh()[0][-1]) == pytest.approx(12, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lanczos_ends_where_the_space_is_invariant(dtype):
    operator = Matrix(symmetric([1.0, 1.0, 1.0, 4.0, 4.0, 9.0], dtype=dtype))
    found = lanczos(operator, normal(6), 6)
    assert operator.products == 3
    torch.testing.assert_close(found.eigh()[0], torch.tensor([1.0, 4.0, 9.0]).double(), rtol=1e-5, atol=0)
    assert found.residual < 1e-4
    assert len(lanczos(Matrix(torch.zeros(4, 4)), torch.ones(4), 4).diagonal) == 1


@pytest.mark.parametrize("name", ["mlp", "convolution", "attention"])
def test_extremes_of_a_models_hessian(name):
    made = case(name)
    expected = torch.linalg.eigvalsh(made.hessian())
    operator = Hessian(made.loss(), made.params)
    found = extreme_eigenvalues(operator, draws(), tolerance=1e-8)
    for pair, value in ((found.smallest, expected[0]), (found.largest, expected[-1])):
        assert pair.value == pytest.approx(float(value), rel=1e-6)
        assert float(pair.vector.norm()) == pytest.approx(1)
        error = float((operator @ pair.vector - pair.value * pair.vector).norm())
        assert error <= pair.bound + 1e-12
        assert pair.bound <= 1e-8 * float(expected.abs().max())
    assert found.products == operator.products - 2 <= operator.size


@pytest.mark.parametrize("steps", [2, 5, 10, 20])
def test_an_eigenvalue_lies_within_the_bound(steps):
    found = extreme_eigenvalues(Matrix(A), draws(1), steps=steps, tolerance=0.0)
    assert found.products == steps
    for pair in found[:2]:
        assert float((EIGENVALUES - pair.value).abs().min()) <= pair.bound + 1e-12
        residual = float((A @ pair.vector - pair.value * pair.vector).norm())
        assert pair.bound == pytest.approx(residual, rel=1e-6, abs=1e-10)
    assert EIGENVALUES[0] - 1e-12 <= found.smallest.value <= found.largest.value <= EIGENVALUES[-1] + 1e-12


def test_extremes_stop_early_and_are_those_of_the_seed():
    few, many = (extreme_eigenvalues(Matrix(A), draws(), tolerance=t) for t in (1e-2, 1e-8))
    assert few.products < many.products < 60
    assert few.largest.value == extreme_eigenvalues(Matrix(A), draws(), tolerance=1e-2).largest.value
    single = extreme_eigenvalues(Matrix(A.float()), draws(), tolerance=1e-2)
    assert single.products == few.products
    assert single.smallest.value == pytest.approx(few.smallest.value, rel=1e-4)


def test_extremes_of_zero_and_of_one_dimension():
    assert extreme_eigenvalues(Matrix(torch.zeros(3, 3)), draws()).largest.value == 0
    found = extreme_eigenvalues(Matrix(torch.tensor([[-2.0]])), draws())
    assert found.smallest.value == found.largest.value == -2


@pytest.mark.parametrize("width", [None, 0.02, 3.0])
def test_the_density_integrates_to_one(width):
    found = spectral_density(Matrix(A), draws(), width=width)
    assert float(torch.trapezoid(found.density, found.grid)) == pytest.approx(1, abs=1e-7)
    assert float(found.weights.sum()) == pytest.approx(1)
    assert float(found.density.min()) >= 0
    assert found.width == (width or pytest.approx(0.19, rel=1e-3))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_moments_of_the_quadrature_are_those_of_the_spectrum(k):
    """On the sphere Var vᵀBv = 2 / (n + 2) · (tr B²/n − (tr B/n)²): within five standard errors, and not too near."""
    probes = 400
    found = spectral_density(Matrix(A), draws(), probes=probes, steps=3)
    exact = float((EIGENVALUES**k).mean())
    error = math.sqrt(2 / 62 * float((EIGENVALUES**k).var(correction=0)) / probes)
    distance = abs(float((found.weights * found.nodes**k).sum()) - exact) / error
    assert 1e-3 < distance < 5
    if k <= 2:  # the smoothed density has the same mean, and σ² more variance
        smooth = float(torch.trapezoid(found.density * found.grid**k, found.grid))
        nodes = float((found.weights * found.nodes**k).sum())
        assert smooth == pytest.approx(nodes + (found.width**2 if k == 2 else 0), abs=1e-6)


def test_few_steps_have_the_moments_of_many():
    """m steps integrate polynomials up to degree 2m − 1 exactly: the same probes, the same moments; not the next."""
    few, many = (spectral_density(Matrix(A), draws(), probes=2, steps=m) for m in (3, 60))
    moments = [[float((f.weights * f.nodes**k).sum()) for k in range(7)] for f in (few, many)]
    assert moments[0][:6] == pytest.approx(moments[1][:6], rel=1e-9)
    assert moments[0][6] != pytest.approx(moments[1][6], rel=1e-4)


def test_the_density_is_the_smoothed_spectrum():
    """Many probes of all steps against the eigenvalues' own Gaussians, on a grid of one's own."""
    grid = torch.linspace(-10, 15, 200)
    found = spectral_density(Matrix(A), draws(), probes=200, steps=60, width=0.5, grid=grid)
    distance = (grid.double()[:, None] - EIGENVALUES) / 0.5
    exact = (torch.exp(-0.5 * distance**2) / (0.5 * math.sqrt(2 * math.pi))).mean(dim=1)
    assert found.grid.equal(grid.double())
    assert float((found.density - exact).abs().max()) < 0.05 * float(exact.max())


def test_the_density_of_a_multiple_of_the_identity():
    found = spectral_density(Matrix(3 * torch.eye(5).double()), draws(), probes=2)
    assert found.nodes.tolist() == pytest.approx([3, 3])
    assert float(torch.trapezoid(found.density, found.grid)) == pytest.approx(1)
    assert float(found.grid[found.density.argmax()]) == pytest.approx(3, abs=0.02)
