"""Linear conjugate gradients: solve Ax = b by products with A alone, and say why it stopped."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.linalg import vector_norm

from thalweg.curvature.operator import LinearOperator

Status = Literal[
    "converged",  # the residual is small enough
    "progress",  # the quadratic model has all but stopped falling
    "negative curvature",  # a direction without positive curvature was met
    "boundary",  # the trust region's boundary was reached
    "products",  # the cap was reached
    "not finite",  # a product or a step is infinite or NaN: the last iterate that was not
]


@dataclass(frozen=True)
class Solution:
    """What linear CG came to.

    Attributes:
        x: the solution ``(n,)``.
        status: why it stopped.
        products: how many products with A it took.
        residual: ‖b − Ax‖, as the recursion has it.
        value: of the quadratic model, φ(x) = ½ xᵀAx − bᵀx, never above φ(0) = 0.
        direction: p ``(n,)`` with pᵀAp ≤ 0 up to rounding and pᵀ(b − Ax) > 0, where the status is negative curvature.
    """

    x: Tensor
    status: Status
    products: int
    residual: float
    value: float
    direction: Tensor | None = None


def linear_cg(
    operator: LinearOperator,
    b: Tensor,
    *,
    x0: Tensor | None = None,
    preconditioner: Callable[[Tensor], Tensor] | None = None,
    tolerance: float = 1e-5,
    progress: float | None = None,
    max_products: int | None = None,
    radius: float | None = None,
) -> Solution:
    """Solves Ax = b for symmetric A, that is minimizes φ(x) = ½ xᵀAx − bᵀx while A shows itself positive.

        α = rᵀz / pᵀAp;   x ← x + αp;   r ← r − αAp;   z = M⁻¹r;   β = r₊ᵀz₊ / rᵀz;   p ← z + βp

    Stops, each time round with one transfer to the host,

    - *converged* when ‖r‖ ≤ tolerance · ‖b‖;
    - on *progress* when (φ_i − φ_{i−k}) / φ_i < k · progress after i > k steps, k = max(10, 0.1 i);
    - on *negative curvature* when pᵀAp ≤ 0, or within ten roundings of zero against the largest curvature met: with
      a radius on the boundary along p; else at the iterate so far, or at p itself where that is still zero,
      which is M⁻¹b: for b = −∇J the way of steepest descent;
    - on the *boundary* when the step would leave the region ‖x‖ ≤ radius.

    Arguments:
        operator: A ``(n, n)``.
        b: ``(n,)``.
        x0: where to start ``(n,)``; zero by default, and where φ(x0) ≥ 0, so that x0 is worse than nothing.
        preconditioner: r ↦ M⁻¹r, M symmetric positive definite and near A; the identity by default.
        tolerance: on the relative residual; not below the type's rounding.
        progress: ε on the model's relative progress, Martens' 5e-4 for example; not looked at by default.
        max_products: cap on products with A; 10 n by default.
        radius: of the trust region, in the norm √(xᵀMx), so Euclidean without a preconditioner; none by default.

    Raises:
        ValueError: b is not ``(n,)``; the preconditioner is not positive; the radius is not positive, or comes with
            an x0, from which the norm would not grow from step to step.

    >>> from thalweg.curvature import Hessian
    >>> bowl = Hessian.of(lambda x: x[0] ** 2 + 2 * x[1] ** 2, torch.zeros(2))
    >>> solution = linear_cg(bowl, torch.tensor([2.0, 4.0]))
    >>> solution.status, solution.products, [round(v, 5) for v in solution.x.tolist()]
    ('converged', 2, [1.0, 1.0])

    Source: Deep Learning, §8.6.2; Hestenes & Stiefel 1952; Steihaug 1983; Martens 2010, §4.4.
    """
    if b.shape != (operator.size,):
        raise ValueError(f"b has shape {tuple(b.shape)}, the operator takes ({operator.size},)")
    if radius is not None and (x0 is not None or not radius > 0):
        raise ValueError("a trust region's radius must be positive, and its search starts at zero: pass no x0")
    b = b.detach().to(operator.device, operator.dtype)
    x, r, value, spent = _start(operator, b, x0)
    at_zero = value == 0
    z = r if preconditioner is None else preconditioner(r)
    p, rz = z, r @ z
    b_norm, norm, slope = torch.stack([vector_norm(b), vector_norm(r), rz]).tolist()
    rounding = torch.finfo(operator.dtype).eps
    goal = max(tolerance, rounding) * b_norm
    most = 10 * operator.size if max_products is None else max_products
    # Squared norms of x and p and their product, in the norm of M; the largest curvature so far.
    xx, xp, pp, largest = 0.0, 0.0, slope, 0.0
    values = [value]
    while True:
        if slope < 0 or (slope == 0 and norm > goal and preconditioner is not None):
            raise ValueError(f"the preconditioner is not positive definite: rᵀM⁻¹r = {slope:.3g}")
        if norm <= goal or slope == 0:
            return Solution(x, "converged", spent, norm, value)
        if progress is not None and _stalled(values, progress):
            return Solution(x, "progress", spent, norm, value)
        if spent >= most:
            return Solution(x, "products", spent, norm, value)
        ap = operator.matvec(p)
        spent += 1
        pap = p @ ap
        # The step is made before its curvature is known, so that one transfer tells of both.
        share = rz / pap
        new_x, new_r = torch.addcmul(x, share, p), torch.addcmul(r, share, ap, value=-1)
        new_z = new_r if preconditioner is None else preconditioner(new_r)
        new_rz = new_r @ new_z
        found = torch.stack([pap, new_x @ (b + new_r), vector_norm(new_r), new_rz]).tolist()
        curvature, new_value, new_norm, new_slope = found[0], -0.5 * found[1], found[2], found[3]
        if not math.isfinite(curvature):
            return Solution(x, "not finite", spent, norm, value)
        largest = max(largest, curvature / pp)
        if curvature / pp <= 10 * rounding * largest:
            tau = float(at_zero) if radius is None else _to_boundary(xx, xp, pp, radius)
            return _stop("negative curvature", b, x, r, p, ap, tau, spent)
        alpha = slope / curvature
        new_xx = xx + 2 * alpha * xp + alpha * alpha * pp
        if radius is not None and new_xx >= radius * radius:
            return _stop("boundary", b, x, r, p, ap, _to_boundary(xx, xp, pp, radius), spent)
        if not all(map(math.isfinite, found)):
            return Solution(x, "not finite", spent, norm, value)
        p = torch.addcmul(new_z, new_rz / rz, p)
        beta = new_slope / slope
        xx, xp, pp = new_xx, beta * (xp + alpha * pp), new_slope + beta * beta * pp
        x, r, rz, value, norm, slope, at_zero = new_x, new_r, new_rz, new_value, new_norm, new_slope, False
        values.append(value)


def _start(operator: LinearOperator, b: Tensor, x0: Tensor | None) -> tuple[Tensor, Tensor, float, int]:
    """Returns where to start, the residual and the model's value there, and the products spent."""
    if x0 is not None:
        x = x0.detach().to(b)
        r = b - operator.matvec(x)
        value = -0.5 * float(x @ (b + r))
        if value < 0:
            return x, r, value, 1
    return torch.zeros_like(b), b, 0.0, int(x0 is not None)


def _stalled(values: list[float], progress: float) -> bool:
    i = len(values) - 1
    k = max(10, math.ceil(0.1 * i))
    return i > k and values[i] < 0 and (values[i] - values[i - k]) / values[i] < k * progress


def _to_boundary(xx: float, xp: float, pp: float, radius: float) -> float:
    """Returns τ ≥ 0 with ‖x + τp‖ = radius, from the squared norms of x and p and their product."""
    length = math.sqrt(xx)
    half_chord = math.sqrt(max(radius - length, 0.0)) * math.sqrt(
        radius + length
    )  # the root of radius² − xx, which may not fit
    whole = xp + math.hypot(xp, math.sqrt(pp) * half_chord)
    return half_chord * (half_chord / whole) if whole > 0 else 0.0


def _stop(status: Status, b: Tensor, x: Tensor, r: Tensor, p: Tensor, ap: Tensor, tau: float, spent: int) -> Solution:
    """Returns the solution a last stretch τ along p."""
    x, r = x + tau * p, r - tau * ap
    norm, twice = torch.stack([vector_norm(r), x @ (b + r)]).tolist()
    return Solution(x, status, spent, norm, -0.5 * twice, p if status == "negative curvature" else None)
