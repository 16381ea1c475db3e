"""The problems of Moré, Garbow and Hillstrom have the known values at their starts, right derivatives, known minima."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize

from benchmarks.problems import PROBLEMS

BY_NAME = {problem.name: problem for problem in PROBLEMS}
EXACT, PUBLISHED = 1e-12, 1e-6


def gulf_at_start():
    total = 0.0
    for i in range(1, 11):
        t = i / 100
        y = 25 + (-50 * math.log(t)) ** (2 / 3)
        total += (math.exp(-(abs(y - 2.5) ** 0.15) / 5) - t) ** 2
    return total


def boundary_value_at_start(n=10):
    """At x = t(t − 1) the second difference is 2h² everywhere, and x + t + 1 = t² + 1."""
    h = 1 / (n + 1)
    return sum((h**2 * (((i * h) ** 2 + 1) ** 3 / 2 - 2)) ** 2 for i in range(1, n + 1))


def integral_equation_at_start(n=10):
    h = 1 / (n + 1)
    t = [i * h for i in range(1, n + 1)]
    total = 0.0
    for i in range(n):
        lower = sum(t[j] * (t[j] ** 2 + 1) ** 3 for j in range(i + 1))
        upper = sum((1 - t[j]) * (t[j] ** 2 + 1) ** 3 for j in range(i + 1, n))
        total += (t[i] * (t[i] - 1) + h * ((1 - t[i]) * lower + t[i] * upper) / 2) ** 2
    return total


# f(x₀) worked out by hand, or as published: MINPACK prints the norm of the residuals to seven digits, CUTEst's
# problem collections and others f(x₀) itself to more.
AT_START = {
    "Rosenbrock": (24.2, EXACT),
    "Freudenstein–Roth": (400.5, EXACT),
    "Powell badly scaled": (1 + (1 + math.exp(-1) - 1.0001) ** 2, EXACT),
    "Brown badly scaled": (999998000003, EXACT),
    "Beale": (14.203125, EXACT),
    "Jennrich–Sampson": (64.58563**2, PUBLISHED),
    "Helical valley": (2500, EXACT),
    "Bard": (6.456136**2, PUBLISHED),
    "Gaussian": (3.88810699116688e-6, EXACT),
    "Meyer": (1693607809.4361455, EXACT),
    "Gulf research": (gulf_at_start(), EXACT),
    "Box 3-D": (1031.1538106093985, EXACT),
    "Powell singular": (215, EXACT),
    "Wood": (19192, EXACT),
    "Kowalik–Osborne": (0.07289150**2, PUBLISHED),
    "Brown–Dennis": (7926693.33699744, EXACT),
    "Osborne 1": (0.9375640**2, PUBLISHED),
    "Biggs EXP6": (0.77907007565597, EXACT),
    "Osborne 2": (2.093419514212065, EXACT),
    "Watson": (30, EXACT),
    "Extended Rosenbrock": (5 * 24.2, EXACT),
    "Extended Powell singular": (3 * 215, EXACT),
    "Penalty I": (148032.56535, EXACT),
    "Penalty II": (162.65277656596712, EXACT),
    "Variably dimensioned": (3.85 + 38.5**2 + 38.5**4, EXACT),
    "Trigonometric": (0.00707575946622261, EXACT),
    "Brown almost-linear": (9 * 5.5**2 + (1 - 2**-10) ** 2, EXACT),
    "Discrete boundary value": (boundary_value_at_start(), EXACT),
    "Discrete integral equation": (integral_equation_at_start(), EXACT),
    "Broyden tridiagonal": (2**2 + 8 * 1**2 + 3**2, EXACT),
    "Broyden banded": (10 * 6**2, EXACT),
    "Linear, full rank": (10 * 1**2 + 10 * 2**2, EXACT),
    "Linear, rank 1": (sum((55 * i - 1) ** 2 for i in range(1, 21)), EXACT),
    "Linear, rank 1, zero columns and rows": (2 + sum((44 * i - 1) ** 2 for i in range(1, 19)), EXACT),
    "Chebyquad": (0.1965139**2, PUBLISHED),
}


def test_are_the_35():
    assert [problem.name for problem in PROBLEMS] == list(AT_START)
    assert len(PROBLEMS) == 35


@pytest.mark.parametrize("name", AT_START)
def test_value_at_the_start(name):
    value, tolerance = AT_START[name]
    problem = BY_NAME[name]
    assert problem.start.dtype == torch.float64
    assert float(problem(problem.start)) == pytest.approx(value, rel=tolerance)


def points(problem):
    """Returns the start, and a point near it where nothing vanishes by chance."""
    noise = torch.randn(len(problem.start), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    scale = torch.where(problem.start == 0, 1, problem.start.abs())
    return [problem.start, problem.start + 0.03 * scale * noise]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_derivatives_are_those_of_finite_differences(problem):
    """Of the residuals: in their sum the large terms of the badly scaled ones drown the differences."""
    for point in points(problem):
        x = point.clone().requires_grad_()
        assert torch.autograd.gradcheck(problem.residuals, x)
        assert torch.autograd.gradgradcheck(problem.residuals, x)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_gradient_is_that_of_the_residuals(problem):
    for point in points(problem):
        x = point.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(problem(x), x)
        jacobian = torch.autograd.functional.jacobian(problem.residuals, point)
        torch.testing.assert_close(gradient, 2 * jacobian.T @ problem.residuals(point), rtol=1e-10, atol=1e-10)


def test_angle_of_the_helical_valley_is_continuous_where_the_first_coordinate_is_negative():
    residuals = BY_NAME["Helical valley"].residuals
    x = torch.tensor([[-1, 1e-9, 0], [-1, -1e-9, 0]], dtype=torch.float64)
    for point in x:
        assert float(residuals(point)[0]) == pytest.approx(-50, abs=1e-6)
    quarters = torch.tensor([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [1e-12, -1, 0]], dtype=torch.float64)
    angles = [-float(residuals(point)[0]) / 100 for point in quarters]
    np.testing.assert_allclose(angles, [0, 0.25, 0.5, -0.25], atol=1e-12)


def solve(problem):
    """Returns the value that SciPy's least squares comes to from the standard start."""

    def residuals(x):
        return problem.residuals(torch.tensor(x)).numpy()

    def jacobian(x):
        return torch.autograd.functional.jacobian(problem.residuals, torch.tensor(x)).numpy()

    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "max_nfev": 5000}
    # MINPACK's steps leave the Gulf problem for infinity, where it is flat; those of the reflective method do not.
    method, scale = ("trf", 1.0) if problem.name == "Gulf research" else ("lm", "jac")
    found = optimize.least_squares(residuals, problem.start.numpy(), jacobian, method=method, x_scale=scale, **tight)
    return 2 * found.cost


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_a_local_solver_reaches_a_listed_minimum(problem):
    value = solve(problem)
    assert any(value == pytest.approx(minimum, rel=1e-6, abs=1e-20) for minimum in problem.minima), value


PAPER = {
    "Freudenstein–Roth": (0, 48.9842),
    "Jennrich–Sampson": (124.362,),
    "Bard": (8.21487e-3, 17.4286),
    "Gaussian": (1.12793e-8,),
    "Meyer": (87.9458,),
    "Kowalik–Osborne": (3.07505e-4, 1.02734e-3),
    "Brown–Dennis": (85822.2,),
    "Osborne 1": (5.46489e-5,),
    "Biggs EXP6": (0, 5.65565e-3),
    "Osborne 2": (4.01377e-2,),
    "Watson": (2.28767e-3,),
    "Penalty I": (7.08765e-5,),
    "Penalty II": (2.93660e-4,),
    "Trigonometric": (0, 2.79506e-5),
    "Brown almost-linear": (0, 1),
    "Linear, full rank": (10,),
    "Linear, rank 1": (20 * 19 / (2 * 41),),
    "Linear, rank 1, zero columns and rows": ((400 + 60 - 6) / (2 * 37),),
    "Chebyquad": (3.51687e-3,),
}


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_minima_are_the_published_ones(problem):
    """The paper cuts them after six digits."""
    assert problem.minima == pytest.approx(PAPER.get(problem.name, (0,)), rel=1e-5)
