"""LAMB: Adam's direction, of which each parameter tensor's step has the size of the tensor itself.

    s ← β₁ s + (1 − β₁) g;   r ← β₂ r + (1 − β₂) g ⊙ g
    u = ŝ / (√r̂ + eps) + λ θ,   ŝ = s / (1 − β₁ᵗ),  r̂ = r / (1 − β₂ᵗ)
    θ ← θ − lr · (‖θ‖ / ‖u‖) u               norms of each tensor; the ratio is 1 where one of them is 0

With ``bias_correction=False`` ŝ = s and r̂ = r.

Source: You et al. 2019 (arXiv 1904.00962), algorithm 2 with φ(z) = z.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from thalweg.rules.rule import Array, Decay, Round, Rule, Scalar, State


@dataclass(frozen=True)
class LAMB(Rule):
    """LAMB; state as Adam's."""

    bias_correction: bool = True

    name: ClassVar[str] = "lamb"
    defaults: ClassVar[Mapping[str, float]] = {
        "lr": 1e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-6,
        "weight_decay": 0.0,
    }
    decay: ClassVar[Decay] = "direction"

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    @property
    def rounds(self) -> tuple[Round, ...]:
        return (Round(("weight_square", "step_square"), self._squares),)

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
            "correction": 1 / correction1,
            "root_correction": correction2**-0.5,
            "eps": hyper["eps"],
            "minus_lr": -hyper["lr"],
        }, {}

    def move(self, params: Array, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        direction, state = self._direction(params, grad, state, c)
        ratio = trust_ratio(c["weight_square"].sqrt(), c["step_square"].sqrt())
        return params + direction * ratio * c["minus_lr"], state

    def _direction(self, params: Array, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        s = state["exp_avg"] * c["beta1"] + grad * c["one_minus_beta1"]
        r = state["exp_avg_sq"] * c["beta2"] + grad * grad * c["one_minus_beta2"]
        u = s * c["correction"] / (r.sqrt() * c["root_correction"] + c["eps"])
        return u + params * c["decay"] if "decay" in c else u, {"exp_avg": s, "exp_avg_sq": r}

    def _squares(self, params: Array, grad: Array, state: State, c: Mapping[str, Scalar]) -> dict[str, Array]:
        u, _ = self._direction(params, grad, state, c)
        return {"weight_square": params * params, "step_square": u * u}


def trust_ratio(weight: Array, step: Array) -> Array:
    """Returns the ratio of two numbers, none of which is negative; 1 where one of them is 0."""
    both = weight.sign() * step.sign()
    return (weight * both + (1 - both)) / (step * both + (1 - both))
