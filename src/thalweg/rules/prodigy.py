"""Prodigy: Adam that estimates its own learning rate, as the distance d from the start to the solution.

    s ← β₁ s + (1 − β₁) d g;   r ← β₂ r + (1 − β₂) d² g ⊙ g
    a ← √β₂ a + (d²/d₀) lr ⟨g, θ₀ − θ⟩;   b ← √β₂ b + (d²/d₀) lr g        with ``safeguard_warmup`` b without lr
    d̂ = d_coef · a / ‖b‖₁;   d_max ← max(d_max, d̂);   d′ = min(d_max, growth_rate · d)
    θ ← θ − d lr · (s / (√r + d′ eps) + λ θ);   d ← d′

⟨·, ·⟩ and ‖·‖₁ are over all parameters. While d is d₀, d̂ takes its place in d′ where it is larger. With
``bias_correction`` lr is multiplied by √(1 − β₂ᵗ) / (1 − β₁ᵗ) throughout.

======== ===================== ======================================================================
paper    argument              meaning
======== ===================== ======================================================================
γ        ``lr``                factor on d, 1 with whatever schedule
d₀       ``d0``                the first estimate, far too small
d        state ``d_ratio``     kept as a multiple of d₀, as ``d_max_ratio`` is; ``d_numerator`` is a
======== ===================== ======================================================================

Source: Mishchenko & Defazio 2023 (arXiv 2306.06101), algorithm 4; details as in the authors' package ``prodigyopt``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from thalweg.rules.rule import Array, Decay, Round, Rule, Scalar, State, larger, smaller


@dataclass(frozen=True)
class Prodigy(Rule):
    """Prodigy; ``p0`` is θ₀, ``s`` is b."""

    safeguard_warmup: bool = False
    bias_correction: bool = False

    name: ClassVar[str] = "prodigy"
    defaults: ClassVar[Mapping[str, float]] = {
        "lr": 1.0,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "d0": 1e-6,
        "d_coef": 1.0,
        "growth_rate": 1e30,
        "weight_decay": 0.0,
    }
    decay: ClassVar[Decay] = "direction"
    numbers: ClassVar[Mapping[str, float]] = {"d_ratio": 1.0, "d_max_ratio": 1.0, "d_numerator": 0.0}

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0, "s": 0.0, "p0": None}

    @property
    def rounds(self) -> tuple[Round, ...]:
        return (Round(("correlation", "s_norm"), self._measured, over="all"),)

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        beta1, beta2 = hyper["beta1"], hyper["beta2"]
        lr = hyper["lr"]
        if self.bias_correction:
            lr = lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
        return {
            "beta1": beta1,
            "one_minus_beta1": 1 - beta1,
            "beta2": beta2,
            "one_minus_beta2": 1 - beta2,
            "root_beta2": beta2**0.5,
            "rate": lr,
            "s_rate": hyper["d0"] * (1.0 if self.safeguard_warmup else lr),
            "d0": hyper["d0"],
            "d_coef": hyper["d_coef"],
            "growth_rate": hyper["growth_rate"],
            "eps": hyper["eps"],
        }, {}

    def settle(self, c: Mapping[str, Scalar]) -> dict[str, Scalar]:
        ratio = c["d_ratio"]
        above = c["root_beta2"] * c["d_numerator"] + ratio * ratio * c["d0"] * c["correlation"]
        below = c["s_norm"] + 1.0 * (c["s_norm"] <= 0)
        estimate = c["d_coef"] * above / below / c["d0"]
        most = larger(c["d_max_ratio"], estimate)
        now = larger(ratio, estimate * (1.0 * (ratio <= 1)))
        return {"d_ratio": smaller(most, now * c["growth_rate"]), "d_max_ratio": most, "d_numerator": above}

    def move(self, params: Array, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        d, after = c["d_ratio"] * c["d0"], self.settle(c)["d_ratio"] * c["d0"]
        s = state["exp_avg"] * c["beta1"] + grad * (d * c["one_minus_beta1"])
        r = state["exp_avg_sq"] * c["beta2"] + grad * grad * (d * d * c["one_minus_beta2"])
        direction = s / (r.sqrt() + after * c["eps"])
        if "decay" in c:
            direction = direction + params * c["decay"]
        new = {"exp_avg": s, "exp_avg_sq": r, "s": self._s(grad, state, c), "p0": state["p0"]}
        return params - direction * (d * c["rate"]), new

    def _s(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> Array:
        return state["s"] * c["root_beta2"] + grad * (c["d_ratio"] * c["d_ratio"] * c["s_rate"])

    def _measured(self, params: Array, grad: Array, state: State, c: Mapping[str, Scalar]) -> dict[str, Array]:
        return {"correlation": grad * (state["p0"] - params) * c["rate"], "s_norm": self._s(grad, state, c).abs()}
