"""Newton's method with the whole Hessian, damped so that it also knows its way where the Hessian is not positive.

    θ ← θ − (H + αI)⁻¹ g

fixed        α as given, and the step taken whatever comes of it: exact in one step on a quadratic for α = 0, drawn to
             a saddle point where H has negative eigenvalues that α does not outweigh
adaptive     α large enough to outweigh the most negative eigenvalue, and then by Levenberg and Marquardt's rule:
             smaller when the model foretold well, larger when it did not
saddle-free  H replaced by |H| (its eigenvalues' sizes), damped alike: runs away from saddle points

Source: Deep Learning, §8.2.3 and §8.6.1, algorithm 8.8; Dauphin et al. 2014 (saddle-free).
"""

from typing import Literal

import torch
from torch import Tensor

from thalweg.curvature import exact_matrix
from thalweg.second_order.objective import Evaluation, Objective
from thalweg.second_order.trust import GOOD, POOR, Model, follow_model
from thalweg.second_order.watch import Callback, Limits, Place, Report, Watch

Damping = Literal["fixed", "adaptive", "saddle-free"]
SMALLEST = 1e-8  # damping, as a share of the Hessian's size, below which there is none


class DampedNewton(Model):
    """The whole Hessian, damped adaptively; the leash is α.

    Arguments:
        saddle_free: take |H| for H.
        alpha: damping to begin with, as a share of the Hessian's size.
    """

    def __init__(self, saddle_free: bool = False, alpha: float = 0.0) -> None:
        self.saddle_free, self.alpha = saddle_free, alpha
        self._of: Tensor | None = None

    def step(self, x: Tensor, at: Evaluation, gradient_share: float) -> tuple[Tensor, float] | None:
        g = at.gradient
        if self._of is not g:  # the matrix of a place is computed once, however often its step is tried
            assert at.curvature is not None
            self._values, self._vectors = torch.linalg.eigh(exact_matrix(at.curvature, "the Hessian"))
            self._of, self._size = g, float(self._values.abs().max())
        if not self._size > 0:
            return None
        along, values = self._vectors.T @ g, self._values.abs() if self.saddle_free else self._values
        lowest = float(values.min()) / self._size
        share = self.alpha
        if lowest <= SMALLEST:  # α must outweigh the most negative eigenvalue
            share = max(share, SMALLEST) - lowest + max(1e-3 * -lowest, SMALLEST)
        d = -along / (values + share * self._size)
        return self._vectors @ d, -float(along @ d + 0.5 * (d * values) @ d)

    def judge(self, ratio: float, d: Tensor) -> None:
        if ratio > GOOD:
            self.alpha = self.alpha / 10 if self.alpha > SMALLEST else 0.0
        elif ratio < POOR:
            self.alpha = max(4 * self.alpha, 1e-3 if ratio > 0 else 1e-2)


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
    if damping == "fixed":
        return _undoubting(objective, x, limits, callback, alpha)
    return follow_model(objective, x, DampedNewton(damping == "saddle-free", alpha), limits, callback)


def _undoubting(objective: Objective, x: Tensor, limits: Limits, callback: Callback | None, alpha: float) -> Report:
    """Takes every step θ ← θ − (H + αI)⁻¹ g, up or down."""
    at = objective.evaluate(x, curvature=True)
    watch = Watch(objective, Place.of(x, at), limits, callback)
    while not (ending := watch.ended()):
        assert at.curvature is not None
        matrix = exact_matrix(at.curvature, "the Hessian")
        matrix.diagonal().add_(alpha)
        step, singular = torch.linalg.solve_ex(matrix, at.gradient)
        if int(singular):
            return watch.report("no progress")
        x = watch.place.x - step
        at = objective.evaluate(x, curvature=True)
        if ending := watch.move(Place.of(x, at)):
            break
    return watch.report(ending)
