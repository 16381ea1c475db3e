"""Adan: Nesterov's momentum from means of gradients and of their differences, scaled as Adam scales.

    s ← β₁ s + (1 − β₁) g;   d ← β₂ d + (1 − β₂) (g − g′)
    r ← β₃ r + (1 − β₃) u ⊙ u,   u = g + β₂ (g − g′)
    θ ← (θ − lr · (ŝ + β₂ d̂) / (√r̂ + eps)) / (1 + lr λ)

g′ is the gradient of the step before, at the first step g; a hat is the correction by 1 − βᵗ. The β here are the shares
that are kept, as in the authors' code; the paper's are 1 − β.

Source: Xie et al. 2022 (arXiv 2208.06677), algorithm 1; defaults of the authors' code, sail-sg/Adan.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from thalweg.rules.rule import Array, Decay, Rule, Scalar, State


@dataclass(frozen=True)
class Adan(Rule):
    """Adan; ``exp_avg`` is s, ``exp_avg_diff`` d, ``previous_grad`` g′."""

    name: ClassVar[str] = "adan"
    defaults: ClassVar[Mapping[str, float]] = {
        "lr": 1e-3,
        "beta1": 0.98,
        "beta2": 0.92,
        "beta3": 0.99,
        "eps": 1e-8,
        "weight_decay": 0.0,
    }
    decay: ClassVar[Decay] = "proximal"

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {"exp_avg": 0.0, "exp_avg_diff": 0.0, "exp_avg_sq": 0.0, "previous_grad": 0.0}

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        beta1, beta2, beta3 = hyper["beta1"], hyper["beta2"], hyper["beta3"]
        return {
            "later": 1.0 * (t > 1),
            "beta1": beta1,
            "one_minus_beta1": 1 - beta1,
            "beta2": beta2,
            "one_minus_beta2": 1 - beta2,
            "beta3": beta3,
            "one_minus_beta3": 1 - beta3,
            "minus_lr": -hyper["lr"] / (1 - beta1**t),
            "minus_lr_diff": -hyper["lr"] * beta2 / (1 - beta2**t),
            "root_correction": (1 - beta3**t) ** -0.5,
            "eps": hyper["eps"],
        }, {}

    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        diff = (grad - state["previous_grad"]) * c["later"]
        s = state["exp_avg"] * c["beta1"] + grad * c["one_minus_beta1"]
        d = state["exp_avg_diff"] * c["beta2"] + diff * c["one_minus_beta2"]
        u = grad + diff * c["beta2"]
        r = state["exp_avg_sq"] * c["beta3"] + u * u * c["one_minus_beta3"]
        step = (s * c["minus_lr"] + d * c["minus_lr_diff"]) / (r.sqrt() * c["root_correction"] + c["eps"])
        return step, {"exp_avg": s, "exp_avg_diff": d, "exp_avg_sq": r, "previous_grad": grad}
