"""Truncated Newton: Newton's step by linear conjugate gradients, cut off when it is good enough or at the radius.

    minimize m(d) = gᵀd + ½ dᵀB d,  ‖d‖ ≤ Δ,   by products B v alone

B is the Hessian. Linear CG stops when ‖Bd + g‖ ≤ η ‖g‖ with η falling as the
gradient does, which makes the end superlinear; a direction of negative curvature is followed to the boundary
(Steihaug). Δ grows when the model predicted well and shrinks when it did not. Memory: a few vectors.

Source: Deep Learning, §8.6.2; Steihaug 1983; Martens 2010 (Hessian-free); Nocedal & Wright, algorithm 7.2.
"""

import math

import torch
from torch import Tensor

from thalweg.curvature import linear_cg
from thalweg.second_order.objective import Evaluation, Objective
from thalweg.second_order.progress import Callback, Limits, Report
from thalweg.second_order.trust import GOOD, POOR, Model, follow_model


class TrustRegion(Model):
    """Steihaug's step within a radius.

    Arguments:
        radius: Δ to begin with; the size of x, or 1 at the origin, by default.
        max_products: cap on products a step; twice the number of coordinates by default.
        most: η's upper end.
    """

    def __init__(self, radius: float | None = None, max_products: int | None = None, most: float = 0.1) -> None:
        self.start, self.radius, self.max_products, self.most = radius, radius, max_products, most

    def _allocate(self, like: Tensor) -> None:
        self.radius = self.start

    def step(self, x: Tensor, at: Evaluation, gradient_share: float) -> tuple[Tensor, float] | None:
        assert at.curvature is not None
        if self.radius is None:
            size = float(torch.linalg.vector_norm(at.gradient))
            self.radius = float(torch.linalg.vector_norm(x)) or abs(float(at.value)) / size or 1.0
        if not self.radius > 0:
            return torch.zeros_like(x), 0.0
        tolerance = min(self.most, gradient_share**0.5)
        cap = self.max_products or 2 * x.numel()
        found = linear_cg(at.curvature, -at.gradient, tolerance=tolerance, radius=self.radius, max_products=cap)
        self._bound = found.status in ("boundary", "negative curvature")
        return found.x, -found.value

    def judge(self, ratio: float, d: Tensor) -> None:
        assert self.radius is not None
        length = float(torch.linalg.vector_norm(d))
        if ratio < POOR:
            self.radius = POOR * length
        elif ratio > GOOD and self._bound:
            self.radius = max(self.radius, (4 if ratio > 0.9 else 2) * length)

    def state(self) -> dict[str, Tensor]:
        return {"radius": torch.tensor(math.nan if self.radius is None else self.radius, dtype=torch.float64)}

    def _load(self, state: dict[str, Tensor]) -> None:
        radius = float(state["radius"])
        self.radius = None if math.isnan(radius) else radius


def truncated_newton(objective: Objective, x: Tensor, limits: Limits, callback: Callback | None = None) -> Report:
    """Minimizes by truncated Newton in a trust region."""
    return follow_model(objective, x, TrustRegion(), limits, callback)
