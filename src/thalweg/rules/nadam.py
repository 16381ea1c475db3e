"""NAdam: Adam with Nesterov's look ahead in the first moment, and a momentum that warms up.

    μ_t = β₁ (1 − ½ · 0.96^(t·ψ))
    s ← β₁ s + (1 − β₁) g;   r ← β₂ r + (1 − β₂) g ⊙ g
    θ ← θ − lr · (1 − μ_t)/(1 − Π_{i≤t} μ_i) · g / (√r̂ + eps)
          − lr · μ_{t+1}/(1 − Π_{i≤t+1} μ_i) · s / (√r̂ + eps),   r̂ = r / (1 − β₂ᵗ)

ψ is ``momentum_decay``. The product of the μ is carried from step to step (torch's ``mu_product``).

Source: Dozat 2016; the combination that Deep Learning, §8.5.3, leaves open.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from thalweg.rules.rule import Array, Rule, Scalar, State


@dataclass(frozen=True)
class NAdam(Rule):
    """NAdam."""

    name: ClassVar[str] = "nadam"
    defaults: ClassVar[Mapping[str, float]] = {
        "lr": 2e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "momentum_decay": 4e-3,
        "weight_decay": 0.0,
    }
    scalar_state: ClassVar[Mapping[str, float]] = {"mu_product": 1.0}

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        beta1, beta2, psi = hyper["beta1"], hyper["beta2"], hyper["momentum_decay"]
        mu = beta1 * (1 - 0.5 * 0.96 ** (t * psi))
        mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * psi))
        product = scalars["mu_product"] * mu
        return {
            "beta1": beta1,
            "one_minus_beta1": 1 - beta1,
            "beta2": beta2,
            "one_minus_beta2": 1 - beta2,
            "root_correction": (1 - beta2**t) ** -0.5,
            "eps": hyper["eps"],
            "minus_lr_grad": -hyper["lr"] * (1 - mu) / (1 - product),
            "minus_lr_mean": -hyper["lr"] * mu_next / (1 - product * mu_next),
        }, {"mu_product": product}

    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        s = state["exp_avg"] * c["beta1"] + grad * c["one_minus_beta1"]
        r = state["exp_avg_sq"] * c["beta2"] + grad * grad * c["one_minus_beta2"]
        look_ahead = grad * c["minus_lr_grad"] + s * c["minus_lr_mean"]
        return look_ahead / (r.sqrt() * c["root_correction"] + c["eps"]), {"exp_avg": s, "exp_avg_sq": r}


@dataclass(frozen=True)
class NAdamW(NAdam):
    """NAdam with decoupled weight decay."""

    name: ClassVar[str] = "nadamw"
    decay: ClassVar[Literal["l2", "decoupled"]] = "decoupled"
