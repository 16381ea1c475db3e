"""BFGS: a dense estimate M of the inverse Hessian, improved by a matrix of rank two at each step.

    d = −M g
    M ← (I − ρ s yᵀ) M (I − ρ y sᵀ) + ρ s sᵀ,   ρ = 1 / sᵀy

worked out as M + s vᵀ + v sᵀ, v = (ρ + ρ² yᵀMy)/2 · s − ρ My: one pass over M to form My and one to update it,
O(n²). Before the first update M is scaled to sᵀy / yᵀy. A pair whose sᵀy is not positive enough is skipped.

Source: Deep Learning, §8.6.3; Nocedal & Wright, Numerical Optimization, §6.1.
"""

import torch
from torch import Tensor

from thalweg.second_order.direction import Direction

CURVATURE = 1e-10  # a pair with sᵀy ≤ CURVATURE · ‖s‖ ‖y‖ tells nothing


class BFGS(Direction):
    """Directions of BFGS; memory n² numbers."""

    def __init__(self) -> None:
        self._inverse: Tensor | None = None

    def reset(self) -> None:
        self._inverse = None

    @property
    def inverse(self) -> Tensor | None:
        """The estimate of the inverse Hessian ``(n, n)``, None before the first step."""
        return self._inverse

    @property
    def fresh(self) -> bool:
        return self._inverse is None

    @property
    def well_scaled(self) -> bool:
        return self._inverse is not None

    def __call__(self, gradient: Tensor) -> Tensor:
        return -gradient if self._inverse is None else -(self._inverse @ gradient)

    def learn(self, s: Tensor, before: Tensor, after: Tensor) -> None:
        y = after - before
        sy, ss, yy = torch.stack([s @ y, s @ s, y @ y]).tolist()
        if not sy > CURVATURE * (ss * yy) ** 0.5:
            return
        if self._inverse is None:
            self._inverse = torch.eye(len(s), dtype=s.dtype, device=s.device) * (sy / yy)
        my = self._inverse @ y
        rho = 1 / sy
        v = s * ((rho + rho**2 * (y @ my)) / 2) - my * rho
        self._inverse.addmm_(torch.stack([s, v], dim=1), torch.stack([v, s]))

    def state(self) -> dict[str, Tensor]:
        return {} if self._inverse is None else {"inverse": self._inverse}

    def load(self, state: dict[str, Tensor]) -> None:
        self._inverse = state.get("inverse")
