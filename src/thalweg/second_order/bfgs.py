"""BFGS: a dense estimate M of the inverse Hessian, improved by a matrix of rank two at each step.

    d = −M g
    M ← (I − ρ s yᵀ) M (I − ρ y sᵀ) + ρ s sᵀ,   ρ = 1 / sᵀy

worked out as M + s vᵀ + v sᵀ, v = (ρ + ρ² yᵀMy)/2 · s − ρ My: one pass over M to form My and one to update it,
O(n²). Before the first update M is scaled to sᵀy / yᵀy. A pair whose sᵀy is not positive enough is skipped.

Source: Deep Learning, §8.6.3; Nocedal & Wright, Numerical Optimization, §6.1.
"""

import math

import torch
from torch import Tensor

from thalweg.curvature import check_fits
from thalweg.second_order.direction import Direction

CURVATURE = 1e-10  # a pair with sᵀy ≤ CURVATURE · ‖s‖ ‖y‖ tells nothing


def has_curvature(sy: float, ss: float, yy: float, dtype: torch.dtype) -> bool:
    """Returns whether a pair tells of curvature: sᵀy is positive enough, and no product fell out of the type's range.

    >>> has_curvature(1.0, 1.0, 1.0, torch.float64), has_curvature(1e-320, 1.0, 0.0, torch.float64)
    (True, False)
    """
    in_range = all(torch.finfo(dtype).tiny <= square < math.inf for square in (sy, ss, yy))
    return in_range and sy > CURVATURE * math.sqrt(ss) * math.sqrt(yy)


class BFGS(Direction):
    """Directions of BFGS; memory n² numbers.

    Raises:
        ValueError: when prepared, where n² numbers are more than 2 GiB.
    """

    def __init__(self) -> None:
        self._inverse = torch.empty(0, 0)
        self._pairs = 0

    def _allocate(self, like: Tensor) -> None:
        check_fits("the estimate of BFGS", len(like), like.dtype, "L-BFGS or nonlinear conjugate gradients")
        self._inverse = like.new_zeros(len(like), len(like))

    def reset(self) -> None:
        self._pairs = 0

    @property
    def inverse(self) -> Tensor | None:
        """The estimate of the inverse Hessian ``(n, n)``, None before the first step."""
        return self._inverse if self._pairs else None

    @property
    def fresh(self) -> bool:
        return not self._pairs

    @property
    def well_scaled(self) -> bool:
        return bool(self._pairs)

    def __call__(self, gradient: Tensor) -> Tensor:
        return -(self._inverse @ gradient) if self._pairs else -gradient

    def learn(self, d: Tensor, step: float, before: Tensor, after: Tensor) -> None:
        s, y = d * step, after - before
        sy, ss, yy = torch.stack([s @ y, s @ s, y @ y]).tolist()
        if not has_curvature(sy, ss, yy, y.dtype):
            return
        if not self._pairs:
            self._inverse.zero_().fill_diagonal_(sy / yy)
        my = self._inverse @ y
        v = (s * ((1 + (y @ my) / sy) / 2) - my) / sy
        self._inverse.addmm_(torch.stack([s, v], dim=1), torch.stack([v, s]))
        self._pairs += 1

    def state(self) -> dict[str, Tensor]:
        return {"inverse": self._inverse, "pairs": torch.tensor(self._pairs)}

    def _load(self, state: dict[str, Tensor]) -> None:
        self._inverse, self._pairs = state["inverse"], int(state["pairs"])
