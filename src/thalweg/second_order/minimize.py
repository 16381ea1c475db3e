"""``thalweg.minimize``: any differentiable torch function of a tensor, with SciPy's result fields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from thalweg.second_order.bfgs import BFGS
from thalweg.second_order.conjugate_gradient import ConjugateGradient
from thalweg.second_order.descent import descend, search_for
from thalweg.second_order.direction import Direction
from thalweg.second_order.lbfgs import LBFGS
from thalweg.second_order.newton import newton
from thalweg.second_order.objective import FunctionObjective, NotAnObjective
from thalweg.second_order.progress import MESSAGES, Callback, Ending, Limits, Report
from thalweg.second_order.truncated_newton import truncated_newton
from thalweg.tensors.ranges import check_number, check_whole
from thalweg.tensors.renamed import renamed

Method = Literal["lbfgs", "bfgs", "cg", "newton", "truncated-newton"]
METHODS: tuple[Method, ...] = ("lbfgs", "bfgs", "cg", "newton", "truncated-newton")
# The options that each takes, and what they are called below.
DIRECTIONS: dict[str, tuple[Callable[..., Direction], dict[str, str]]] = {
    "lbfgs": (LBFGS, {"history_size": "memory", "damping": "damping", "history_dtype": "dtype"}),
    "bfgs": (BFGS, {}),
    "cg": (ConjugateGradient, {"beta": "beta", "restart_orthogonality": "orthogonality", "restart_every": "every"}),
}
FORMERLY = {
    "memory": "history_size",
    "dtype": "history_dtype",
    "orthogonality": "restart_orthogonality",
    "every": "restart_every",
    "line_search": "line_search_fn",
    "max_iterations": "max_iter",
}
STATUS: dict[Ending, int] = {"gradient": 0, "change": 0, "iterations": 1, "evaluations": 1, "no progress": 2}
STATUS |= {"not finite": 3, "unbounded": 4, "singular": 5, "callback": 99}


@dataclass(frozen=True)
class MinimizeResult:
    """What :func:`minimize` found; fields as SciPy's OptimizeResult.

    Attributes:
        x: the point, in the shape of the start.
        fun: value there.
        grad: gradient there, in the shape of x.
        nfev, ngev, nhev: evaluations of the function, of its gradient (always together), and Hessian products.
        nit: iterations.
        status: 0 converged, 1 a cap was reached, 2 no progress, 3 not finite, 4 unbounded, 5 a singular Hessian, 99
            the callback ended it.
        success: whether it converged.
        message: why it ended, in words.
    """

    x: Tensor
    fun: float
    grad: Tensor
    nfev: int
    ngev: int
    nhev: int
    nit: int
    status: int
    success: bool
    message: str


def minimize(
    fun: Callable[[Tensor], Tensor],
    x0: Tensor,
    method: Method = "lbfgs",
    *,
    gtol: float = 1e-5,
    max_evaluations: int = 15_000,
    callback: Callable[[Tensor, float], bool | None] | None = None,
    options: Mapping[str, Any] | None = None,
) -> MinimizeResult:
    """Minimizes a differentiable torch function from a starting point.

        min f(x),   until the minimum is within gtol · ‖x‖∞

    estimated from the decrease of the gradient along the way, see :mod:`thalweg.second_order.approach`. The criterion
    does not depend on the scale of f: multiplying f by a constant changes nothing. The result is the best point
    that was evaluated.

    Arguments:
        fun: a function from a tensor of the shape and type of x0 to a scalar tensor.
        x0: the starting point, of any shape, real floating-point type and device; it is not changed. From bfloat16 and
            float16 the method computes in float32, and ``fun`` is evaluated in the type of x0.
        method: ``"lbfgs"`` (memory of a few vectors), ``"bfgs"`` (n² numbers), ``"cg"`` (two vectors), ``"newton"``
            (n² numbers and n Hessian products per iteration), ``"truncated-newton"`` (Hessian products).
        gtol: tolerance relative to ‖x‖∞, or at the origin to a thousandth of that of x0. With 0 the method continues
            until it can make no more progress, which does not count as success.
        max_evaluations: maximum number of joint evaluations of the function and its gradient.
        callback: receives (x, f(x)) after each iteration, where x is a copy; returning True or raising StopIteration
            stops the minimization.
        options: options of the method: ``history_size`` (15), ``damping`` (0) and ``history_dtype`` of lbfgs; ``beta``,
            ``restart_orthogonality`` and ``restart_every`` of cg; ``line_search_fn`` (``"strong_wolfe"``,
            ``"hager_zhang"``, ``"backtracking"``) of the three methods with line searches; ``max_iter`` of all.

    Returns:
        The :class:`MinimizeResult`.

    Raises:
        ValueError: the method or an option is unknown, a setting is out of its range, or x0 is not a real
            floating-point tensor.
        NotAnObjective: the function does not return a scalar with a gradient.

    >>> result = minimize(lambda x: ((x - 3) ** 2).sum(), torch.zeros(2, dtype=torch.float64))
    >>> [round(v, 6) for v in result.x.tolist()], result.success
    ([3.0, 3.0], True)

    Source: Deep Learning, §8.6; Nocedal & Wright, Numerical Optimization.
    """
    if not isinstance(x0, Tensor) or not x0.is_floating_point():
        raise ValueError("x0 must be a real floating-point tensor: torch.tensor([...], dtype=torch.float64)")
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: choose among {', '.join(METHODS)}")
    chosen = _named_anew(options or {})
    most = chosen.pop("max_iter", None)
    limits = Limits(
        check_number("gtol", gtol),
        None if most is None else check_whole("max_iter", most, 0),
        check_whole("max_evaluations", max_evaluations, 1),
    )
    objective = FunctionObjective(lambda flat: fun(flat.view(x0.shape)), x0.dtype)
    on_iteration = None if callback is None else _of_place(callback, x0)
    start = x0.detach().reshape(-1).to(torch.promote_types(x0.dtype, torch.float32), copy=True)
    report = _run(method, objective, start, limits, on_iteration, chosen)
    place, factor = report.best, objective.factor or 1.0
    status, message = STATUS[report.ending], MESSAGES[report.ending]
    return MinimizeResult(
        _as(place.x, x0),
        place.loss,
        _as(place.gradient / factor, x0),
        objective.evaluations,
        objective.evaluations,
        objective.products,
        report.iterations,
        status,
        status == 0,
        message,
    )


def _run(
    method: Method,
    objective: FunctionObjective,
    start: Tensor,
    limits: Limits,
    on_iteration: Callback | None,
    options: dict[str, Any],
) -> Report:
    if method in ("newton", "truncated-newton"):
        _none_left(method, options)
        drive = newton if method == "newton" else truncated_newton
        return drive(objective, start, limits, on_iteration)
    make, names = DIRECTIONS[method]
    direction = make(**{name: options.pop(public) for public, name in names.items() if public in options})
    search = search_for(options.pop("line_search_fn", "strong_wolfe"), start.dtype, loose=method != "cg")
    _none_left(method, options)
    return descend(objective, start, direction, search, limits, on_iteration)


def _named_anew(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options by the names that :mod:`thalweg.optim` has for them, which are torch's."""
    if not isinstance(options, Mapping):
        raise ValueError(f"options must be a dictionary of names and values, not {options!r}")
    return renamed(options, FORMERLY, stacklevel=4)


def _none_left(method: str, options: Mapping[str, Any]) -> None:
    if options:
        raise ValueError(f"method {method!r} has no option {min(options, key=str)!r}")


def _of_place(callback: Callable[[Tensor, float], bool | None], x0: Tensor) -> Callback:
    return lambda place: callback(_as(place.x.clone(), x0), place.loss)


def _as(flat: Tensor, like: Tensor) -> Tensor:
    return flat.to(like.dtype).view(like.shape)


__all__ = ["METHODS", "MinimizeResult", "NotAnObjective", "minimize"]
