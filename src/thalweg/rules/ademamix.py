"""AdEMAMix: Adam with a second momentum that forgets slowly, so that old gradients count too.

    s₁ ← β₁ s₁ + (1 − β₁) g;   s₂ ← β₃,ₜ s₂ + (1 − β₃,ₜ) g;   r ← β₂ r + (1 − β₂) g ⊙ g
    θ ← θ − lr · ((ŝ₁ + α_t s₂) / (√r̂ + eps) + λ θ),   ŝ₁ = s₁ / (1 − β₁ᵗ),  r̂ = r / (1 − β₂ᵗ)
    α_t = α · min(1, t / T_α)
    ln β₃,ₜ = ln β₁ ln β₃ / ((1 − τ) ln β₃ + τ ln β₁),   τ = min(1, t / T_β₃)

So β₃,ₜ grows from β₁ to β₃ with a half-life that grows linearly. A T of 0 means the last value from the start.

======== ================================= ====================================================================
paper    argument                          meaning
======== ================================= ====================================================================
η        ``lr``                            learning rate
β₁ β₂ β₃ ``beta1`` … ``beta3``             decay of the fast, the second and the slow moment
α        ``alpha``                         share of the slow momentum
T        ``alpha_warmup`` ``beta3_warmup`` steps over which α and β₃ grow; the paper's are all steps of the run
======== ================================= ====================================================================

Source: Pagliardini, Ablin & Grangier 2024 (arXiv 2409.03137), section 3 and appendix A.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from thalweg.rules.rule import Array, Decay, Rule, Scalar, State, larger, logarithm, smaller


@dataclass(frozen=True)
class AdEMAMix(Rule):
    """AdEMAMix; ``exp_avg`` is s₁, ``exp_avg_slow`` s₂."""

    name: ClassVar[str] = "ademamix"
    defaults: ClassVar[Mapping[str, float]] = {
        "lr": 1e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "beta3": 0.9999,
        "alpha": 5.0,
        "alpha_warmup": 0.0,
        "beta3_warmup": 0.0,
        "eps": 1e-8,
        "weight_decay": 0.0,
    }
    decay: ClassVar[Decay] = "decoupled"

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {"exp_avg": 0.0, "exp_avg_slow": 0.0, "exp_avg_sq": 0.0}

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        beta1, beta2 = hyper["beta1"], hyper["beta2"]
        share = smaller(t / larger(hyper["beta3_warmup"], 1.0), 1.0)
        first, last = logarithm(larger(beta1, 1e-12)), logarithm(hyper["beta3"])
        beta3 = math.e ** (first * last / ((1 - share) * last + share * first))
        return {
            "beta1": beta1,
            "one_minus_beta1": 1 - beta1,
            "beta2": beta2,
            "one_minus_beta2": 1 - beta2,
            "beta3": beta3,
            "one_minus_beta3": 1 - beta3,
            "minus_lr": -hyper["lr"] / (1 - beta1**t),
            "minus_lr_slow": -hyper["lr"] * hyper["alpha"] * smaller(t / larger(hyper["alpha_warmup"], 1.0), 1.0),
            "root_correction": (1 - beta2**t) ** -0.5,
            "eps": hyper["eps"],
        }, {}

    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        fast = state["exp_avg"] * c["beta1"] + grad * c["one_minus_beta1"]
        slow = state["exp_avg_slow"] * c["beta3"] + grad * c["one_minus_beta3"]
        r = state["exp_avg_sq"] * c["beta2"] + grad * grad * c["one_minus_beta2"]
        step = (fast * c["minus_lr"] + slow * c["minus_lr_slow"]) / (r.sqrt() * c["root_correction"] + c["eps"])
        return step, {"exp_avg": fast, "exp_avg_slow": slow, "exp_avg_sq": r}
