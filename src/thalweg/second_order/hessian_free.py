"""Hessian-free: Newton's step by linear conjugate gradients on a damped matrix, λ by Levenberg and Marquardt's rule.

    (B + λI) d = −g,   B the Hessian or the generalized Gauss–Newton matrix, by products alone
    λ ← 3/2 λ where the model predicted badly, 2/3 λ where it did well

Linear CG starts from a share of the last step's solution, and stops when the model has all but stopped falling, or
on a direction of negative curvature. λ begins as a share of B's curvature along the gradient, gᵀBg / gᵀg, so that
multiplying the loss by a constant changes nothing. Memory: a few vectors.

Source: Deep Learning, §8.6.2; Martens 2010 (Hessian-free), §4; Martens & Sutskever 2012.
"""

import math

import torch
from torch import Tensor

from thalweg.curvature import Damped, linear_cg
from thalweg.second_order.objective import Evaluation
from thalweg.second_order.trust import GOOD, POOR, Model
from thalweg.tensors.ranges import check_number, check_whole

RAISE, LOWER = 1.5, 2 / 3
RAISE_MORE = 4.0  # where the value rose: each trial costs an evaluation and a solution


class HessianFree(Model):
    """Linear CG on B + λI; λ is what holds the step.

    Arguments:
        damping: λ to begin with, as a share of gᵀBg / gᵀg.
        warm_start: share of the last solution that linear CG starts from; 0 starts at zero.
        max_products: cap on products a step.
        progress: ε of Martens' stop, on the model's relative progress.

    Raises:
        ValueError: a constant out of its range.
    """

    def __init__(
        self, damping: float = 1.0, warm_start: float = 0.95, max_products: int = 250, progress: float = 5e-4
    ) -> None:
        check_number("damping", damping)
        check_whole("max_products", max_products, 1)
        if not (damping >= 0 and 0 <= warm_start <= 1 and max_products >= 1 and progress > 0):
            raise ValueError(
                f"damping {damping}, warm_start {warm_start}, max_products {max_products}, progress {progress}: give "
                "damping >= 0, 0 <= warm_start <= 1, max_products >= 1, progress > 0"
            )
        self.start, self.warm_start, self.max_products, self.progress = damping, warm_start, max_products, progress
        self._damping, self._last = math.nan, torch.empty(0)
        self._curved = True

    def _allocate(self, like: Tensor) -> None:
        self._damping, self._last = math.nan, torch.zeros_like(like)

    def step(self, x: Tensor, at: Evaluation, gradient_share: float) -> tuple[Tensor, float] | None:
        assert at.curvature is not None
        g = at.gradient
        if math.isnan(self._damping):
            curvature, square = torch.stack([g @ at.curvature.matvec(g), g @ g]).tolist()
            if not (square > 0 and curvature):  # out of the type's range, or a loss that is linear in the outputs
                return None
            self._damping = self.start * abs(curvature) / square
        found = linear_cg(
            Damped(at.curvature, self._damping),
            -g,
            x0=self.warm_start * self._last if self.warm_start else None,
            tolerance=min(0.1, gradient_share**0.5),
            progress=self.progress,
            max_products=self.max_products,
        )
        self._last, self._curved = found.x, found.status != "negative curvature"
        return found.x, 0.5 * self._damping * float(found.x @ found.x) - found.value

    def judge(self, ratio: float, d: Tensor) -> None:
        if ratio < POOR:
            self._damping *= RAISE if ratio > 0 else RAISE_MORE
        elif ratio > GOOD and self._curved:
            self._damping *= LOWER

    def state(self) -> dict[str, Tensor]:
        return {"damping": torch.tensor(self._damping, dtype=torch.float64), "solution": self._last}

    def _load(self, state: dict[str, Tensor]) -> None:
        self._damping, self._last = float(state["damping"]), state["solution"]
