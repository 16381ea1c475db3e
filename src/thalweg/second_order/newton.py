"""Newton's method with the whole Hessian, damped so that it also knows its way where the Hessian is not positive.

    θ ← θ − (H + αI)⁻¹ g

fixed        α as given, and the step taken whatever comes of it: exact in one step on a quadratic for α = 0, drawn to
             a saddle point where H has negative eigenvalues that α does not outweigh
adaptive     α outweighs the most negative eigenvalue, and on top of that follows Levenberg and Marquardt's rule: a
             tenth when the model predicted well, four times as much when it did not, but at least dᵀ|H|d / dᵀd
saddle-free  H replaced by |H| (its eigenvalues' sizes), damped alike: runs away from saddle points

dᵀ|H|d / dᵀd is the curvature along the step d that failed, and α of that size halves it. It may be many powers of ten
below ‖H‖, so no share of ‖H‖ can tell how much damping is little.

Source: Deep Learning, §8.2.3 and §8.6.1, algorithm 8.8; Dauphin et al. 2014 (saddle-free).
"""

import math
from typing import Literal

import torch
from torch import Tensor

from thalweg.curvature import exact_matrix
from thalweg.second_order.objective import Evaluation, Objective
from thalweg.second_order.progress import Callback, Limits, Report
from thalweg.second_order.trust import GOOD, POOR, Model, follow_model
from thalweg.tensors.ranges import check_number

Damping = Literal["fixed", "adaptive", "saddle-free"]


class DampedNewton(Model):
    """The whole Hessian, damped adaptively; α is what holds the step.

    Arguments:
        saddle_free: take |H| for H.
        alpha: damping to begin with, as a share of the Hessian's size.
    """

    def __init__(self, saddle_free: bool = False, alpha: float = 0.0) -> None:
        self.saddle_free, self.start = saddle_free, alpha
        self.alpha = math.nan  # before there is a Hessian to measure it by
        self._of: Tensor | None = None

    def _allocate(self, like: Tensor) -> None:
        self.alpha, self._of = math.nan, None

    def step(self, x: Tensor, at: Evaluation, gradient_share: float) -> tuple[Tensor, float] | None:
        if self._of is not at.gradient:  # the matrix of a place is computed once, however often its step is tried
            self._see(at)
        if not self._size > 0:
            return None
        if math.isnan(self.alpha):
            self.alpha = self.start * self._size
        alpha = self.alpha
        if self._lowest <= 0:
            alpha += max(1e-3 * -self._lowest, self._rounding * self._size) - self._lowest
        d = self._pull / (self._values + alpha)
        pull, square, bend = torch.stack([self._pull @ d, d @ d, (d * d) @ self._values.abs()]).tolist()
        self._bend = bend / square if square else 0.0
        return self._vectors @ d, 0.5 * (pull + alpha * square)  # −m(d), as Hd = −g − αd

    def _see(self, at: Evaluation) -> None:
        assert at.curvature is not None
        values, self._vectors = torch.linalg.eigh(exact_matrix(at.curvature, "the Hessian"))
        self._of, self._values = at.gradient, values.abs() if self.saddle_free else values
        self._rounding = torch.finfo(values.dtype).eps
        pull = -(self._vectors.T @ at.gradient)
        # A part of g that rounding alone explains says nothing; divided by an eigenvalue as small it would say much.
        self._pull = torch.where(pull.abs() > 10 * self._rounding * torch.linalg.vector_norm(pull), pull, 0)
        self._size, self._lowest = torch.stack([values.abs().max(), self._values.min()]).tolist()

    def judge(self, ratio: float, d: Tensor) -> None:
        if ratio > GOOD:
            self.alpha = self.alpha / 10 if self.alpha > 1e-3 * abs(self._lowest) else 0.0
        elif ratio < POOR:
            self.alpha = max(4 * self.alpha, self._bend)

    def state(self) -> dict[str, Tensor]:
        return {"alpha": torch.tensor(self.alpha, dtype=torch.float64)}

    def _load(self, state: dict[str, Tensor]) -> None:
        self.alpha = float(state["alpha"])


class FixedNewton(Model):
    """The whole Hessian plus αI, with every step taken; no step where that is singular."""

    certain = True

    def __init__(self, alpha: float = 0.0) -> None:
        self.alpha = alpha

    def _allocate(self, like: Tensor) -> None:
        """Has nothing to allocate."""

    def step(self, x: Tensor, at: Evaluation, gradient_share: float) -> tuple[Tensor, float] | None:
        assert at.curvature is not None
        matrix = exact_matrix(at.curvature, "the Hessian")
        matrix.diagonal().add_(self.alpha)
        d, singular = torch.linalg.solve_ex(matrix, -at.gradient)
        return None if int(singular) else (d, -0.5 * float(at.gradient @ d))

    def judge(self, ratio: float, d: Tensor) -> None:
        """Does not doubt."""

    def state(self) -> dict[str, Tensor]:
        return {}

    def _load(self, state: dict[str, Tensor]) -> None:
        """Has no state."""


def newton(
    objective: Objective,
    x: Tensor,
    limits: Limits,
    callback: Callback | None = None,
    *,
    damping: Damping = "adaptive",
    alpha: float = 0.0,
) -> Report:
    """Minimizes by Newton's method; for ``fixed`` damping ``alpha`` is absolute, else a share of ‖H‖ to begin with."""
    return follow_model(objective, x, newton_model(damping, alpha), limits, callback)


def newton_model(damping: Damping, alpha: float) -> Model:
    """Returns the model with this damping.

    Raises:
        ValueError: unknown damping, or a negative alpha.
    """
    check_number("alpha", alpha)
    if damping == "fixed":
        return FixedNewton(alpha)
    if damping not in ("adaptive", "saddle-free"):
        raise ValueError(f"unknown damping {damping!r}: choose fixed, adaptive or saddle-free")
    return DampedNewton(damping == "saddle-free", alpha)
