"""Lion: a step of one size along the sign of a mean of momentum and gradient.

    θ ← θ − lr · (sign(β₁ s + (1 − β₁) g) + λ θ)
    s ← β₂ s + (1 − β₂) g

Every coordinate moves by lr, so that its learning rate is 3 to 10 times smaller than AdamW's, and its λ as much larger.

====== ======================= ==============================================
paper  argument                meaning
====== ======================= ==============================================
η      ``lr``                  learning rate
β₁ β₂  ``beta1`` ``beta2``     share of s in the step, and of s that is kept
m      state ``exp_avg``       s, the momentum
====== ======================= ==============================================

Source: Chen et al. 2023 (arXiv 2302.06675), algorithm 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from thalweg.rules.rule import Array, Decay, Rule, Scalar, State


@dataclass(frozen=True)
class Lion(Rule):
    """Lion, with decoupled weight decay; ``exp_avg`` is s."""

    name: ClassVar[str] = "lion"
    defaults: ClassVar[Mapping[str, float]] = {"lr": 1e-4, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0}
    decay: ClassVar[Decay] = "decoupled"

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {"exp_avg": 0.0}

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        beta1, beta2 = hyper["beta1"], hyper["beta2"]
        c = {"beta1": beta1, "one_minus_beta1": 1 - beta1, "beta2": beta2, "one_minus_beta2": 1 - beta2}
        return c | {"minus_lr": -hyper["lr"]}, {}

    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        s = state["exp_avg"]
        step = (s * c["beta1"] + grad * c["one_minus_beta1"]).sign() * c["minus_lr"]
        return step, {"exp_avg": s * c["beta2"] + grad * c["one_minus_beta2"]}
