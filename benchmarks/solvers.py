"""The minimizers that are compared, each through one counter that also decides when it has solved a problem."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize
from torch import Tensor

import thalweg
from benchmarks.problems import Problem

LIMIT, TOLERANCE = 3000, 1e-9

Vector = NDArray[np.float64]


class Solved(Exception):
    """A point that meets the criterion was evaluated."""


class Exhausted(Exception):
    """The evaluations are used up."""


class Counted:
    """A problem that counts: every evaluation at a point other than the last, and every product with its Hessian.

    Attributes: ``evaluations`` and ``products`` so far; ``solved_at``, the evaluation that first met the criterion,
    or None; ``value`` there, else the least value so far.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._last: Tensor | None = None
        self._at_last, self._gradient = float("nan"), problem.start
        self.evaluations = self.products = 0
        self.solved_at: int | None = None
        self.value = float("inf")
        _, gradient = _value_and_gradient(problem, problem.start)
        self.first = float(gradient.abs().max())
        self.threshold = TOLERANCE * max(1.0, self.first)

    def __call__(self, x: Tensor) -> Tensor:
        """Returns f(x), a tensor to differentiate, once or twice."""
        self._note(x.detach())
        return self._problem(x)

    def value_and_gradient(self, x: Vector) -> tuple[float, Vector]:
        """Returns f(x) and ∇f(x); ends the solver that has just solved the problem."""
        value = self._note(torch.tensor(x))
        if self.solved_at is not None:
            raise Solved
        return value, self._gradient.numpy().copy()

    def product(self, x: Vector, direction: Vector) -> Vector:
        """Returns ∇²f(x) times the direction."""
        self.products += 1
        at = torch.tensor(x, requires_grad=True)
        (gradient,) = torch.autograd.grad(self._problem(at), at, create_graph=True)
        if not gradient.requires_grad:  # a constant gradient
            return np.zeros_like(x)
        return torch.autograd.grad(gradient, at, torch.tensor(direction))[0].numpy()

    def hessian(self, x: Vector) -> Vector:
        """Returns ∇²f(x), n products."""
        return np.stack([self.product(x, column) for column in np.eye(len(x))])

    def _note(self, x: Tensor) -> float:
        if self._last is None or not torch.equal(x, self._last):
            if self.evaluations == LIMIT:
                raise Exhausted
            self.evaluations += 1
            self._last = x.clone()
            self._at_last, self._gradient = _value_and_gradient(self._problem, self._last)
            if self.solved_at is None:
                self.value = min(self.value, self._at_last)
                if float(self._gradient.abs().max()) <= self.threshold:
                    self.solved_at, self.value = self.evaluations, self._at_last
        return self._at_last


def _value_and_gradient(problem: Problem, x: Tensor) -> tuple[float, Tensor]:
    at = x.clone().requires_grad_()
    value = problem(at)
    return value.item(), torch.autograd.grad(value, at)[0]


@dataclass(frozen=True)
class Solver:
    """A minimizer in its family: ``run`` goes on from a start and returns in words why it ended."""

    family: str
    run: Callable[[Counted, Tensor], str]


def _scipy(method: str, options: dict[str, Any], second: str | None = None) -> Callable[[Counted, Tensor], str]:
    def run(counted: Counted, start: Tensor) -> str:
        derivatives = {"hessp": counted.product, "hess": counted.hessian}
        more = {second: derivatives[second]} if second else {}
        # One iteration may evaluate many points, hence no more iterations than evaluations.
        settings = {"maxiter": LIMIT, **options}
        found = optimize.minimize(
            counted.value_and_gradient, start.numpy().copy(), jac=True, method=method, options=settings, **more
        )
        return str(found.message)

    return run


def _torch_lbfgs(counted: Counted, start: Tensor) -> str:
    x = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [x],
        max_iter=LIMIT,
        max_eval=2 * LIMIT,
        tolerance_grad=0,
        tolerance_change=0,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        value, gradient = counted.value_and_gradient(x.detach().numpy())
        x.grad = torch.tensor(gradient)
        return value

    optimizer.step(closure)
    return "no more progress"


def _thalweg(method: str) -> Callable[[Counted, Tensor], str]:
    def run(counted: Counted, start: Tensor) -> str:
        # Without a tolerance, as the others; the callback ends it where the criterion is met.
        found = thalweg.minimize(
            counted,
            start.clone(),
            method,
            gtol=0,
            max_evaluations=LIMIT,
            callback=lambda x, f: counted.solved_at is not None,
        )
        counted.products = int(found.nhev)
        return str(found.message)

    return run


# The default cap of 1,000 on the radius would cost the trust regions a thousand steps to a minimum a million away.
WIDE = {"gtol": 0, "max_trust_radius": 1e10}
SOLVERS = {
    "SciPy L-BFGS-B": Solver("L-BFGS", _scipy("L-BFGS-B", {"maxcor": 10, "ftol": 0, "gtol": 0, "maxfun": 2 * LIMIT})),
    "torch LBFGS": Solver("L-BFGS", _torch_lbfgs),
    "SciPy BFGS": Solver("BFGS", _scipy("BFGS", {"gtol": 0})),
    "SciPy CG": Solver("conjugate gradient", _scipy("CG", {"gtol": 0})),
    "SciPy Newton-CG": Solver("truncated Newton", _scipy("Newton-CG", {"xtol": 0}, "hessp")),
    "SciPy trust-ncg": Solver("truncated Newton", _scipy("trust-ncg", WIDE, "hessp")),
    "SciPy trust-exact": Solver("Newton", _scipy("trust-exact", WIDE, "hess")),
}
METHODS = {
    "lbfgs": "L-BFGS",
    "bfgs": "BFGS",
    "cg": "conjugate gradient",
    "truncated-newton": "truncated Newton",
    "newton": "Newton",
}
SOLVERS |= {f"thalweg {method}": Solver(family, _thalweg(method)) for method, family in METHODS.items()}
