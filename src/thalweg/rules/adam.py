"""Adam: momentum on the gradient, scaled by the root of an average of its square; both corrected for their start.

    s ← β₁ s + (1 − β₁) g
    r ← β₂ r + (1 − β₂) g ⊙ g
    θ ← θ − lr · ŝ / (√r̂ + eps),   ŝ = s / (1 − β₁ᵗ),  r̂ = r / (1 − β₂ᵗ)

AMSGrad (Reddi et al. 2018) takes the running maximum of r in its place. With ``bias_correction=False``
ŝ = s and r̂ = r: after one step s is (1 − β₁) g, with the correction it is g.

====== ======================= ==============================================
book   argument                meaning
====== ======================= ==============================================
ε      ``lr``                  learning rate
ρ₁ ρ₂  ``beta1`` ``beta2``     decay of the first and second moment
δ      ``eps``                 added *outside* the root, after the correction
====== ======================= ==============================================

Source: Deep Learning, §8.5.3, algorithm 8.7; Kingma & Ba 2014; Loshchilov & Hutter 2017 (AdamW).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from thalweg.rules.rule import Array, Rule, Scalar, State


@dataclass(frozen=True)
class Adam(Rule):
    """Adam, and AMSGrad with ``amsgrad=True``."""

    amsgrad: bool = False
    bias_correction: bool = True

    name: ClassVar[str] = "adam"
    defaults: ClassVar[Mapping[str, float]] = {
        "lr": 1e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "weight_decay": 0.0,
    }

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0} | ({"max_exp_avg_sq": 0.0} if self.amsgrad else {})

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        beta1, beta2 = hyper["beta1"], hyper["beta2"]
        correction1 = 1 - beta1**t if self.bias_correction else 1.0
        correction2 = 1 - beta2**t if self.bias_correction else 1.0
        return {
            "beta1": beta1,
            "one_minus_beta1": 1 - beta1,
            "beta2": beta2,
            "one_minus_beta2": 1 - beta2,
            "minus_lr": -hyper["lr"] / correction1,
            "root_correction": correction2**-0.5,
            "eps": hyper["eps"],
        }, {}

    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        s = state["exp_avg"] * c["beta1"] + grad * c["one_minus_beta1"]
        r = state["exp_avg_sq"] * c["beta2"] + grad * grad * c["one_minus_beta2"]
        new = {"exp_avg": s, "exp_avg_sq": r}
        if self.amsgrad:
            r = new["max_exp_avg_sq"] = state["max_exp_avg_sq"].maximum(r)
        return s * c["minus_lr"] / (r.sqrt() * c["root_correction"] + c["eps"]), new


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: θ ← (1 − lr·λ) θ before the step."""

    name: ClassVar[str] = "adamw"
    defaults: ClassVar[Mapping[str, float]] = {**Adam.defaults, "weight_decay": 1e-2}
    decay: ClassVar[Literal["l2", "decoupled"]] = "decoupled"
