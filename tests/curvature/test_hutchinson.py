"""Hutchinson's estimates are unbiased, and their standard errors are what they say."""

import math

import pytest
import torch

from tests.curvature.models import Matrix, case, draws, normal, symmetric
from thalweg.curvature import Hessian, diagonal, trace

A = symmetric(normal(12) * 3)
OFF = A - torch.diag(A.diagonal())


def test_trace_and_its_error_are_those_of_theory():
    """Var vᵀAv = 2 Σ_{i≠j} A_ij²; the distance from the truth is checked in true standard errors."""
    found = trace(Matrix(A), draws(), samples=2000)
    error = math.sqrt(2 * float(OFF.square().sum()) / 2000)
    assert abs(found.value - float(A.trace())) < 4 * error
    assert found.error == pytest.approx(error, rel=0.1)


def test_trace_errors_cover():
    """200 estimates: their scores have mean 0 and variance 1, within four standard errors."""
    estimates = [trace(Matrix(A), draws(seed), samples=40) for seed in range(200)]
    scores = torch.tensor([(e.value - float(A.trace())) / e.error for e in estimates])
    assert abs(float(scores.mean())) < 4 / math.sqrt(200)
    assert float(scores.var()) == pytest.approx(1, abs=0.45)


def test_diagonal_and_its_errors_are_those_of_theory():
    found = diagonal(Matrix(A), draws(), samples=2000)
    errors = (OFF.square().sum(dim=1) / 2000).sqrt()
    scores = (found.value - A.diagonal()) / errors
    assert float(scores.abs().max()) < 4
    assert 0.3 < float(scores.square().mean()) < 2.5
    torch.testing.assert_close(found.error, errors, rtol=0.1, atol=0)


def test_a_diagonal_matrix_takes_one_sample():
    operator = Matrix(torch.diag(torch.tensor([1.0, -2.0, 4.0])))
    assert diagonal(operator, draws(), samples=1).value.tolist() == [1, -2, 4]
    assert diagonal(operator, draws(), samples=1).error.isnan().all()
    assert trace(operator, draws(), samples=1).value == 3
    assert math.isnan(trace(operator, draws(), samples=1).error)
    assert trace(operator, draws(), samples=5).error == 0
    assert not diagonal(operator, draws(), samples=5).error.any()


def test_the_mean_and_the_error_are_those_of_the_samples():
    """Sample by sample from one generator, against all at once."""
    generator = draws(3)
    singles = torch.stack([diagonal(Matrix(A), generator, samples=1).value for _ in range(7)])
    found = diagonal(Matrix(A), draws(3), samples=7)
    torch.testing.assert_close(found.value, singles.mean(dim=0))
    torch.testing.assert_close(found.error, singles.std(dim=0) / math.sqrt(7))
    whole = trace(Matrix(A), draws(3), samples=7)
    assert whole.value == pytest.approx(float(singles.sum(dim=1).mean()))
    assert whole.error == pytest.approx(float(singles.sum(dim=1).std()) / math.sqrt(7))


def test_draws_are_the_seeds_in_either_type():
    one, same, other = (trace(Matrix(A), draws(seed), samples=5) for seed in (0, 0, 1))
    assert one == same
    assert one.value != other.value
    single = trace(Matrix(A.float()), draws(0), samples=5)
    assert single.value == pytest.approx(one.value, rel=1e-4)


def test_a_models_hessian():
    made = case("mlp")
    operator, exact = Hessian(made.loss(), made.params), made.hessian()
    found = trace(operator, draws(), samples=300)
    assert operator.products == 300
    assert abs(found.value - float(exact.trace())) < 4 * found.error
    estimate = diagonal(operator, draws(1), samples=300)
    assert float(((estimate.value - exact.diagonal()).abs() / (estimate.error + 1e-12)).max()) < 4.5
