"""``thalweg.minimize`` as its users rely on it: SciPy's fields, caps, scale, and every kind of bad function."""

import contextlib
import math

import pytest
import torch
from scipy import optimize

import thalweg
from benchmarks.problems import OTHER_DIMENSIONS, PROBLEMS
from thalweg.curvature import Hessian
from thalweg.second_order import METHODS, FunctionObjective, Limits, NotAnObjective, newton

EASY = [p for p in PROBLEMS if p.name in ("Rosenbrock", "Beale", "Helical valley", "Broyden tridiagonal", "Box 3-D")]
each = pytest.mark.parametrize("method", METHODS)


def rosenbrock(x):
    return 100 * (x[1:] - x[:-1] ** 2).square().sum() + (1 - x[:-1]).square().sum()


START = torch.tensor([-1.2, 1.0], dtype=torch.float64)


class Counting:
    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, x):
        self.calls += 1
        return self.function(x)


@each
@pytest.mark.parametrize("problem", EASY, ids=lambda p: p.name)
def test_reaches_the_published_minimum(method, problem):
    found = thalweg.minimize(problem, problem.start, method, gtol=1e-9, max_evaluations=3000)
    assert found.success, found.message
    assert any(abs(found.fun - minimum) <= 1e-8 * (1 + abs(minimum)) for minimum in problem.minima)


@each
def test_fields_are_scipys_and_true(method):
    found = thalweg.minimize(rosenbrock, START, method, gtol=1e-10)
    reference = optimize.minimize(lambda x: float(rosenbrock(torch.from_numpy(x))), START.numpy(), method="Nelder-Mead")
    assert {"x", "fun", "nfev", "nit", "status", "success", "message"} <= set(vars(found)) & set(reference.keys())
    assert found.fun == pytest.approx(float(rosenbrock(found.x)), abs=1e-30)
    x = found.x.clone().requires_grad_()
    torch.testing.assert_close(found.grad, torch.autograd.grad(rosenbrock(x), x)[0])
    torch.testing.assert_close(found.x, torch.ones(2, dtype=torch.float64), rtol=1e-6, atol=1e-6)
    assert found.nfev == found.ngev >= found.nit > 3
    assert (found.nhev > 0) == (method in ("newton", "truncated-newton"))


@each
@pytest.mark.parametrize("factor", [2.0**-20, 2.0**20])
def test_multiplying_the_function_changes_nothing(method, factor):
    one = thalweg.minimize(rosenbrock, START, method)
    two = thalweg.minimize(lambda x: rosenbrock(x) * factor, START, method)
    assert (one.nfev, one.nit, one.status) == (two.nfev, two.nit, two.status)
    torch.testing.assert_close(one.x, two.x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["lbfgs", "bfgs", "cg"])
@pytest.mark.parametrize("factor", [1e-19, 1e12])
def test_also_by_a_large_constant(method, factor):
    one = thalweg.minimize(rosenbrock, START, method)
    two = thalweg.minimize(lambda x: rosenbrock(x) * factor, START, method)
    assert two.success
    assert two.nfev == pytest.approx(one.nfev, rel=0.3)
    torch.testing.assert_close(one.x, two.x, rtol=1e-3, atol=1e-3)


@each
def test_the_cap_on_evaluations_is_exact(method):
    for cap in (1, 2, 5, 9):
        function = Counting(rosenbrock)
        found = thalweg.minimize(function, START, method, gtol=0.0, max_evaluations=cap)
        assert found.nfev == function.calls <= cap
        assert found.status == 1
        assert found.fun <= rosenbrock(START)


@each
def test_without_tolerance_it_goes_on_until_no_progress_can_be_made(method):
    found = thalweg.minimize(rosenbrock, START, method, gtol=0.0, max_evaluations=2000)
    assert found.nfev < 2000
    assert found.grad.abs().max() < 1e-8


@each
def test_shapes_types_and_the_start_are_kept(method):
    start = torch.zeros(2, 3)
    found = thalweg.minimize(lambda x: ((x - 2) ** 2).sum() + x.mean() ** 4, start, method, gtol=1e-4)
    assert found.x.shape == found.grad.shape == (2, 3)
    assert found.x.dtype == torch.float32
    assert not start.any()
    assert found.success


@each
def test_the_callback_sees_every_iteration_and_can_end_it(method):
    values = []
    found = thalweg.minimize(rosenbrock, START, method, callback=lambda x, f: values.append((x.shape, f)) or False)
    assert len(values) == found.nit
    assert values[-1][1] == found.fun
    ended = thalweg.minimize(rosenbrock, START, method, callback=lambda x, f: True)
    assert ended.nit == 1
    assert (ended.status, ended.success) == (99, False)


@each
def test_bad_functions_end_with_a_status(method):
    start = torch.tensor([0.5], dtype=torch.float64)
    nowhere = thalweg.minimize(lambda x: (x * math.nan).sum(), start, method)
    assert (nowhere.status, nowhere.success, nowhere.x.item()) == (3, False, 0.5)
    # The logarithm's edge: finite to the right of 0 only, and the minimum near it.
    edge = thalweg.minimize(lambda x: (100 * x - x.log()).sum(), torch.tensor([3.0], dtype=torch.float64), method)
    assert edge.x.item() == pytest.approx(0.01, rel=1e-3)
    still = thalweg.minimize(lambda x: (x**2).sum(), torch.zeros(1, dtype=torch.float64), method)
    assert (still.success, still.nit) == (True, 0)


def test_what_falls_without_end_says_so():
    for method in ("lbfgs", "bfgs", "cg", "truncated-newton"):
        found = thalweg.minimize(lambda x: x.sum(), torch.zeros(2, dtype=torch.float64), method)
        assert (found.status, found.success) == (4, False)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: thalweg.minimize(rosenbrock, START, "adam"), "unknown method 'adam': choose among lbfgs"),
        (lambda: thalweg.minimize(rosenbrock, [1.0]), "x0 must be a real floating-point tensor"),
        (lambda: thalweg.minimize(rosenbrock, torch.ones(2).long()), "x0 must be a real floating-point tensor"),
        (lambda: thalweg.minimize(rosenbrock, START, options={"memry": 3}), "'lbfgs' has no option 'memry'"),
        (lambda: thalweg.minimize(rosenbrock, START, "newton", options={"history_size": 3}), "'newton' has no option"),
        (lambda: thalweg.minimize(rosenbrock, START, options={"line_search_fn": "exact"}), "choose strong_wolfe"),
        (
            lambda: thalweg.minimize(rosenbrock, START, options={"history_size": 0}),
            "history_size must be a whole number of at least 1",
        ),
    ],
)
def test_bad_input_names_the_mend(call, match):
    with pytest.raises(ValueError, match=match):
        call()


@each
def test_what_is_no_objective_is_refused(method):
    for function, match in (
        (lambda x: x, "does not return a scalar"),
        (lambda x: 3.0, "does not return a scalar"),
        (lambda x: x.detach().sum(), "without a gradient"),
    ):
        with pytest.raises(NotAnObjective, match=match):
            thalweg.minimize(function, START, method)


@each
def test_solves_the_standard_set(method):
    assert unsolved(PROBLEMS, method) == []


@pytest.mark.thorough
def test_conjugate_gradients_solve_the_set_at_other_published_dimensions():
    assert unsolved(OTHER_DIMENSIONS, "cg") == []


def unsolved(problems, method):
    """Returns what is not solved to ‖∇f‖∞ ≤ 1e-9 max(1, ‖∇f(x₀)‖∞) within 3,000 evaluations."""
    from benchmarks.solvers import Counted, Exhausted, Solved

    found = []
    for problem in problems:
        counted = Counted(problem)
        with contextlib.suppress(Solved, Exhausted):
            thalweg.minimize(
                counted,
                problem.start,
                method,
                gtol=0.0,
                max_evaluations=3000,
                callback=lambda x, f, counted=counted: counted.solved_at is not None,
            )
        if not counted.solved_at:
            found.append(problem.name)
    return found


@pytest.mark.parametrize("method", ["newton", "truncated-newton"])
def test_every_product_is_counted_also_while_steps_are_rejected(method, monkeypatch):
    made = []
    product = Hessian._product

    def counted(self, vector):
        made.append(1)
        return product(self, vector)

    monkeypatch.setattr(Hessian, "_product", counted)
    monkeypatch.setattr(torch, "vmap", lambda function: lambda rows: torch.stack([function(row) for row in rows]))

    def funnel(x):  # straight walls: the model predicts a far better place far behind the minimum
        return (1 + (10 * (x - 100)) ** 2).sqrt().sum()

    found = thalweg.minimize(funnel, torch.tensor([102.0, 101.0], dtype=torch.float64), method, gtol=1e-8)
    rejected = found.nfev - 1 - found.nit
    assert rejected >= 3
    assert found.nhev == len(made)


def test_newton_is_exact_in_one_step_on_a_quadratic():
    a = torch.diag(torch.tensor([1.0, 50.0, 1000.0], dtype=torch.float64))
    b = torch.tensor([3.0, -2.0, 1.0], dtype=torch.float64)
    objective = FunctionObjective(lambda x: 0.5 * x @ a @ x - b @ x)
    for damping in ("fixed", "adaptive"):
        report = newton(objective, torch.ones(3, dtype=torch.float64), Limits(1e-9), damping=damping)
        assert (report.iterations, report.ending) == (1, "gradient")
        torch.testing.assert_close(report.place.x, torch.linalg.solve(a, b))


def test_newton_is_drawn_to_a_saddle_and_damping_and_the_absolute_hessian_leave_it():
    def saddle(x):
        return x[0] ** 2 - x[1] ** 2 + x[1] ** 4

    start = torch.tensor([1.0, 0.1], dtype=torch.float64)
    ends = {
        damping: newton(FunctionObjective(saddle), start, Limits(1e-8, iterations=100), damping=damping).place.x
        for damping in ("fixed", "adaptive", "saddle-free")
    }
    assert ends["fixed"].abs().max() < 1e-6
    for damping in ("adaptive", "saddle-free"):
        assert ends[damping][1].abs().item() == pytest.approx(0.5**0.5, rel=1e-5)


@pytest.mark.parametrize("damping", ["adaptive", "saddle-free"])
@pytest.mark.parametrize("problem", [p for p in PROBLEMS if "rank 1" in p.name], ids=lambda p: p.name)
def test_newton_is_not_led_astray_by_eigenvalues_that_are_rounding(damping, problem):
    report = newton(FunctionObjective(problem), problem.start, Limits(1e-9, evaluations=5), damping=damping)
    assert report.ending == "gradient"
    assert report.place.value == pytest.approx(problem.minima[0])


@pytest.mark.parametrize("damping", ["adaptive", "saddle-free"])
@pytest.mark.parametrize("name", ["Powell badly scaled", "Brown badly scaled"])
def test_newton_crosses_valleys_whose_curvatures_are_many_powers_of_ten_apart(damping, name):
    problem = next(p for p in PROBLEMS if p.name == name)
    report = newton(FunctionObjective(problem), problem.start, Limits(1e-9, evaluations=400), damping=damping)
    assert report.ending == "gradient"
    assert report.place.value < 1e-8
