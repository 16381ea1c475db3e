"""The cost of an iteration of ``thalweg.minimize`` outside the user's function (goal: less than 300 µs).

The time of a whole run on the extended Rosenbrock function, minus all time in the user's function and in
torch.autograd, is divided by the number of iterations, each of which may evaluate several points. What remains is the
time for directions, line searches and bookkeeping. The last column is the library's own work around autograd for
Hessian products: building the operator, splitting vectors into parameters, and Newton's n products at once. Newton's
eigenvalue decomposition counts as overhead. All time in the functions, gradients, products and Hessians of the other
libraries is subtracted. One thread; medians of runs in turns.
"""

import time
from collections.abc import Callable
from importlib import import_module
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize
from threadpoolctl import threadpool_limits
from torch import Tensor

import thalweg
from benchmarks.measure import alternately, table
from thalweg.curvature import Hessian, exact_matrix

NEWTON = import_module("thalweg.second_order.newton")  # the module, whose name in the package is the function's
SIZES = [10, 100]
GTOL = 1e-5

Vector = NDArray[np.float64]


class Clock:
    """Adds up the time that passes in functions; what one of them does in another counts once."""

    def __init__(self) -> None:
        self.spent, self._running = 0.0, False

    def on(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function, on the clock."""

        def timed(*args: Any, **more: Any) -> Any:
            if self._running:
                return function(*args, **more)
            self._running, began = True, time.perf_counter()
            try:
                return function(*args, **more)
            finally:
                self._running, self.spent = False, self.spent + time.perf_counter() - began

        return timed


def rosenbrock(x: Tensor) -> Tensor:
    """The extended function of Rosenbrock, n even."""
    a, b = x[::2], x[1::2]
    return (100 * (b - a**2) ** 2 + (1 - a) ** 2).sum()


def _start(n: int) -> Tensor:
    return torch.tensor([-1.2, 1.0], dtype=torch.float64).repeat(n // 2)


def value_and_gradient(x: Vector) -> tuple[float, Vector]:
    """Returns f(x) and ∇f(x)."""
    at = torch.tensor(x, requires_grad=True)
    value = rosenbrock(at)
    return value.item(), torch.autograd.grad(value, at)[0].numpy()


def product(x: Vector, direction: Vector) -> Vector:
    """Returns ∇²f(x) times the direction."""
    at = torch.tensor(x, requires_grad=True)
    (gradient,) = torch.autograd.grad(rosenbrock(at), at, create_graph=True)
    return torch.autograd.grad(gradient, at, torch.tensor(direction))[0].numpy()


def hessian(x: Vector) -> Vector:
    """Returns ∇²f(x)."""
    return torch.func.hessian(rosenbrock)(torch.tensor(x)).numpy()


# From a clock on function and autograd, one that is on all that makes products too, and n, to the iterations.
Run = Callable[[Clock, Clock, int], int]


def _thalweg(method: str) -> Run:
    def run(clock: Clock, wide: Clock, n: int) -> int:
        def both(function: Callable[..., Any]) -> Callable[..., Any]:
            return wide.on(clock.on(function))

        with (
            patch("torch.autograd.grad", both(torch.autograd.grad)),
            patch.object(Hessian, "__init__", wide.on(Hessian.__init__)),
            patch.object(Hessian, "matvec", wide.on(Hessian.matvec)),
            patch.object(NEWTON, "exact_matrix", wide.on(exact_matrix)),
        ):
            return thalweg.minimize(both(rosenbrock), _start(n), method, gtol=GTOL).nit

    return run


def _scipy(method: str, settings: dict[str, Any], **second: Callable[..., Any]) -> Run:
    def run(clock: Clock, wide: Clock, n: int) -> int:
        start = _start(n).numpy()
        options = settings | {"gtol": GTOL * np.abs(value_and_gradient(start)[1]).max()}
        more = {name: clock.on(function) for name, function in second.items()}
        found = optimize.minimize(clock.on(value_and_gradient), start, jac=True, method=method, options=options, **more)
        return int(found.nit)

    return run


def _torch_lbfgs(clock: Clock, wide: Clock, n: int) -> int:
    x = _start(n).requires_grad_()
    gtol = GTOL * np.abs(value_and_gradient(_start(n).numpy())[1]).max()
    optimizer = torch.optim.LBFGS(
        [x], max_iter=1000, tolerance_grad=gtol, tolerance_change=0, history_size=15, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = rosenbrock(x)
        value.backward()
        return value

    optimizer.step(clock.on(closure))
    return int(optimizer.state[x]["n_iter"])


# Method -> the peers beside it.
PEERS: dict[str, dict[str, Run]] = {
    "lbfgs": {"torch LBFGS": _torch_lbfgs, "SciPy L-BFGS-B": _scipy("L-BFGS-B", {"maxcor": 15, "ftol": 0})},
    "bfgs": {"SciPy BFGS": _scipy("BFGS", {})},
    "cg": {"SciPy CG": _scipy("CG", {})},
    "truncated-newton": {"SciPy trust-ncg": _scipy("trust-ncg", {}, hessp=product)},
    "newton": {"SciPy trust-exact": _scipy("trust-exact", {}, hess=hessian)},
}


def measure(rounds: int = 15) -> dict[str, Any]:
    """Returns, for each method and size, and each peer, the medians of an iteration in microseconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # SciPy's BLAS too: its threads wait for work so busily that they slow everybody down.
        with threadpool_limits(1):
            return {f"{method}, n = {n}": _measure(method, n, rounds) for method in PEERS for n in SIZES}
    finally:
        torch.set_num_threads(threads)


def _measure(method: str, n: int, rounds: int) -> dict[str, Any]:
    runs = {"thalweg": _thalweg(method), **PEERS[method]}
    iterations = {name: run(Clock(), Clock(), n) for name, run in runs.items()}  # and what is done once, at first
    parts: dict[str, dict[str, list[float]]] = {name: {"inside": [], "products": []} for name in runs}

    def outside(name: str) -> float:
        clock, wide, began = Clock(), Clock(), time.perf_counter()
        runs[name](clock, wide, n)
        whole, products = time.perf_counter() - began, max(0.0, wide.spent - clock.spent)
        parts[name]["inside"].append(clock.spent)
        parts[name]["products"].append(products)
        return whole - clock.spent - products

    for name, values in alternately({name: (lambda name=name: outside(name)) for name in runs}, rounds).items():
        parts[name]["outside"] = values
    return {
        name: {"iterations": iterations[name]}
        | {part: 1e6 * median(values) / iterations[name] for part, values in parts[name].items()}
        for name in runs
    }


def show(found: dict[str, Any]) -> str:
    """Returns the table."""
    rows = [
        [
            case if solver == "thalweg" else "",
            solver,
            one["iterations"],
            one["outside"],
            one["inside"],
            one["products"] if solver == "thalweg" and "newton" in case else None,
        ]
        for case, solvers in found.items()
        for solver, one in solvers.items()
    ]
    head = ["method", "solver", "iterations", "µs per iteration outside f", "within f and autograd", "around products"]
    return table(head, rows)
