"""Nonlinear conjugate gradients: each direction keeps what the last one gained, with two vectors of memory.

    d = −g + β d₋,   y = g − g₋

=================== =================================================
fletcher_reeves     gᵀg / g₋ᵀg₋
polak_ribiere       gᵀy / g₋ᵀg₋
polak_ribiere_plus  max(0, gᵀy / g₋ᵀg₋)
hestenes_stiefel    gᵀy / d₋ᵀy
dai_yuan            gᵀg / d₋ᵀy                            (the default)
hager_zhang         max(η, (y − 2 d₋ yᵀy / d₋ᵀy)ᵀg / d₋ᵀy),   η = −1 / (‖d₋‖ min(0.01, ‖g₋‖))
=================== =================================================

It begins anew with −g when d is no descent direction (the driver sees to it), when successive gradients are far from
orthogonal, |gᵀg₋| ≥ ``orthogonality`` ‖g‖² (Powell 1977 has 0.2), and, if asked, after ``every`` steps. The classic
n steps and 0.2 cost more evaluations than they save on small, badly scaled problems.

Source: Deep Learning, §8.6.2; Nocedal & Wright, Numerical Optimization, §5.2; Hager & Zhang 2005.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from thalweg.second_order.direction import Direction
from thalweg.tensors.ranges import check_number, check_whole

Beta = Literal["fletcher_reeves", "polak_ribiere", "polak_ribiere_plus", "hestenes_stiefel", "dai_yuan", "hager_zhang"]
BETAS: tuple[Beta, ...] = get_args(Beta)
# Which inner products each needs, of g, the g before (b), the d before and y, beside gᵀg and gᵀg₋.
NEEDS: dict[Beta, tuple[str, ...]] = {
    "fletcher_reeves": ("bb",),
    "polak_ribiere": ("gy", "bb"),
    "polak_ribiere_plus": ("gy", "bb"),
    "hestenes_stiefel": ("gy", "dy"),
    "dai_yuan": ("dy",),
    "hager_zhang": ("gy", "dy", "yy", "dg", "dd", "bb"),
}


class ConjugateGradient(Direction):
    """Directions of nonlinear conjugate gradients.

    Arguments:
        beta: the formula, see the table at the top of the module.
        orthogonality: Powell's constant: successive gradients less orthogonal than that begin anew; infinity never.
        every: steps after which it begins anew; never by default.

    Raises:
        ValueError: unknown formula, or a constant out of its range.
    """

    vectors = ("gradient", "direction")

    def __init__(self, beta: Beta = "dai_yuan", orthogonality: float = 1.0, every: int | None = None) -> None:
        if beta not in BETAS:
            raise ValueError(f"unknown beta {beta!r}: choose among {', '.join(BETAS)}")
        self.beta = beta
        self.orthogonality = check_number("restart_orthogonality", orthogonality, infinite=True)
        self.every = None if every is None else check_whole("restart_every", every, 1)
        self._gradient = self._direction = torch.empty(0)
        self._steps = -1  # since it began anew; −1 before it has a direction

    def _allocate(self, like: Tensor) -> None:
        self._gradient, self._direction = torch.zeros_like(like), torch.zeros_like(like)

    def reset(self) -> None:
        self._steps = -1

    @property
    def fresh(self) -> bool:
        return self._steps < 0

    @property
    def well_scaled(self) -> bool:
        return False

    def __call__(self, gradient: Tensor) -> Tensor:
        due = self.every is not None and self._steps >= self.every
        if self.fresh or due:
            self._steps, self._direction = 0, -gradient
        else:
            y = gradient - self._gradient
            vectors = {"g": gradient, "b": self._gradient, "d": self._direction, "y": y}
            names = ("gg", "gb", *NEEDS[self.beta])
            found = self.ranks.sums(*(vectors[name[0]] @ vectors[name[1]] for name in names))
            dots = dict(zip(names, found, strict=True))
            beta = self._beta(dots)
            # No branch on a tensor's value: a restart multiplies the old direction by zero.
            far = dots["gb"].abs() >= self.orthogonality * dots["gg"]
            beta = torch.where(far, torch.zeros_like(beta), torch.nan_to_num(beta, 0.0, 0.0, 0.0))
            self._direction = torch.addcmul(-gradient, self._direction, beta)
        self._gradient = gradient
        return self._direction

    def learn(self, d: Tensor, step: float, before: Tensor, after: Tensor) -> None:
        self._steps += 1

    def _beta(self, dots: dict[str, Tensor]) -> Tensor:
        if self.beta == "fletcher_reeves":
            return dots["gg"] / dots["bb"]
        if self.beta == "polak_ribiere":
            return dots["gy"] / dots["bb"]
        if self.beta == "polak_ribiere_plus":
            return (dots["gy"] / dots["bb"]).clamp_min(0)
        if self.beta == "hestenes_stiefel":
            return dots["gy"] / dots["dy"]
        if self.beta == "dai_yuan":
            return dots["gg"] / dots["dy"]
        eta = -1 / (dots["dd"].sqrt() * dots["bb"].sqrt().clamp_max(0.01))
        return torch.maximum((dots["gy"] - 2 * dots["yy"] * dots["dg"] / dots["dy"]) / dots["dy"], eta)

    def state(self) -> dict[str, Tensor]:
        return {"gradient": self._gradient, "direction": self._direction, "steps": torch.tensor(self._steps)}

    def _load(self, state: dict[str, Tensor]) -> None:
        self._gradient, self._direction, self._steps = state["gradient"], state["direction"], int(state["steps"])
