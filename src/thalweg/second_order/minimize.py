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
from thalweg.second_order.truncated_newton import truncated_newton
from thalweg.second_order.watch import MESSAGES, Callback, Ending, Limits, Report

Method = Literal["lbfgs", "bfgs", "cg", "newton", "truncated-newton"]
METHODS: tuple[Method, ...] = ("lbfgs", "bfgs", "cg", "newton", "truncated-newton")
DIRECTIONS: dict[str, tuple[Callable[..., Direction], tuple[str, ...]]] = {  # and the options that each takes
    "lbfgs": (LBFGS, ("memory", "damping", "dtype")),
    "bfgs": (BFGS, ()),
    "cg": (ConjugateGradient, ("beta", "orthogonality", "every")),
}
STATUS: dict[Ending, int] = {
    "gradient": 0, "change": 0, "callback": 0, "iterations": 1, "evaluations": 1, "no progress": 2, "not finite": 3,
    "unbounded": 4, "singular": 5,
}  # fmt: skip


@dataclass(frozen=True)
class MinimizeResult:
    """What :func:`minimize` found; fields as SciPy's OptimizeResult.

    Attributes:
        x: the point, in the shape of the start.
        fun: value there.
        grad: gradient there, in the shape of x.
        nfev, ngev, nhev: evaluations of the function, of its gradient (always together), and Hessian products.
        nit: iterations.
        status: 0 converged, 1 a cap was reached, 2 no progress, 3 not finite, 4 unbounded, 5 a singular Hessian.
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
    """Minimizes a differentiable torch function from a start.

        min f(x),   until ‖∇f(x)‖∞ ≤ gtol · ‖∇f(x₀)‖∞

    Arguments:
        fun: from a tensor of the start's shape to a scalar tensor.
        x0: the start; any shape, any real type, any device; not changed.
        method: ``"lbfgs"`` (memory of a few vectors), ``"bfgs"`` (n² numbers), ``"cg"`` (two vectors), ``"newton"``
            (n² numbers and n Hessian products an iteration), ``"truncated-newton"`` (Hessian products).
        gtol: relative; multiplying f by a constant changes nothing, within the range in which ‖∇f‖² can be held, and a
            bad start loosens it. With 0 it goes on until no progress can be made.
        max_evaluations: of the function and its gradient together.
        callback: is told (x, f(x)) after each iteration; True ends it.
        options: of the method: ``memory`` (15), ``damping`` (0) and ``dtype`` of lbfgs; ``beta``, ``orthogonality`` and
            ``every`` of cg; ``line_search`` (``"more-thuente"``, ``"hager-zhang"``, ``"backtracking"``) of the three
            with lines; ``max_iterations`` of all.

    Returns:
        The :class:`MinimizeResult`.

    Raises:
        ValueError: an unknown method or option, or a start that is no real floating-point tensor.
        NotAnObjective: the function gives no scalar, or none with a gradient.

    >>> result = minimize(lambda x: ((x - 3) ** 2).sum(), torch.zeros(2, dtype=torch.float64))
    >>> [round(v, 6) for v in result.x.tolist()], result.success
    ([3.0, 3.0], True)

    Source: Deep Learning, §8.6; Nocedal & Wright, Numerical Optimization.
    """
    if not isinstance(x0, Tensor) or not x0.is_floating_point():
        raise ValueError("x0 must be a real floating-point tensor: torch.tensor([...], dtype=torch.float64)")
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: choose among {', '.join(METHODS)}")
    chosen = dict(options or {})
    objective = FunctionObjective(lambda flat: fun(flat.view(x0.shape)))
    limits = Limits(gtol, chosen.pop("max_iterations", None), max_evaluations)
    told = None if callback is None else _telling(callback, x0.shape)
    start = x0.detach().reshape(-1).clone()
    report = _run(method, objective, start, limits, told, chosen)
    place = report.place
    status, message = STATUS[report.ending], MESSAGES[report.ending]
    return MinimizeResult(
        place.x.view(x0.shape), place.value, place.gradient.view(x0.shape), objective.evaluations,
        objective.evaluations, objective.products, report.iterations, status, status == 0, message,
    )  # fmt: skip


def _run(
    method: Method,
    objective: FunctionObjective,
    start: Tensor,
    limits: Limits,
    told: Callback | None,
    options: dict[str, Any],
) -> Report:
    if method in ("newton", "truncated-newton"):
        _none_left(method, options)
        drive = newton if method == "newton" else truncated_newton
        return drive(objective, start, limits, told)
    make, names = DIRECTIONS[method]
    direction = make(**{name: options.pop(name) for name in names if name in options})
    search = search_for(options.pop("line_search", "more-thuente"), start.dtype, loose=method != "cg")
    _none_left(method, options)
    return descend(objective, start, direction, search, limits, told)


def _none_left(method: str, options: Mapping[str, Any]) -> None:
    if options:
        raise ValueError(f"method {method!r} has no option {min(options)!r}")


def _telling(callback: Callable[[Tensor, float], bool | None], shape: torch.Size) -> Callback:
    return lambda place: callback(place.x.view(shape), place.value)


__all__ = ["METHODS", "MinimizeResult", "NotAnObjective", "minimize"]
