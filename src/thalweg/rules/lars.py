"""LARS: momentum whose learning rate in each tensor follows the ratio of the weights' and the gradient's norms.

    ρ = η ‖θ‖ / (‖g‖ + λ ‖θ‖)             norms of each tensor; 1 where ‖θ‖ or the denominator is 0
    v ← μ v + ρ (g + λ θ)
    θ ← θ − lr · v

The paper keeps the learning rate inside v, as the book does; this is torch's form, see :mod:`thalweg.rules.sgd`.

====== ===================== =======================================
paper  argument              meaning
====== ===================== =======================================
γ      ``lr``                global learning rate
η      ``trust_coefficient`` how far a tensor trusts its gradient
m      ``momentum``          share of v kept
β      ``weight_decay``      λ
====== ===================== =======================================

Source: You, Gitman & Ginsburg 2017 (arXiv 1708.03888), algorithm 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from thalweg.rules.lamb import trust_ratio
from thalweg.rules.rule import Array, Decay, Round, Rule, Scalar, State


@dataclass(frozen=True)
class LARS(Rule):
    """LARS; ``momentum_buffer`` is v."""

    name: ClassVar[str] = "lars"
    defaults: ClassVar[Mapping[str, float]] = {
        "lr": 1.0,
        "momentum": 0.9,
        "trust_coefficient": 1e-3,
        "weight_decay": 0.0,
    }
    decay: ClassVar[Decay] = "direction"

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {"momentum_buffer": 0.0}

    @property
    def rounds(self) -> tuple[Round, ...]:
        return (Round(("weight_square", "grad_square"), self._squares),)

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        c = {"momentum": hyper["momentum"], "trust": hyper["trust_coefficient"], "minus_lr": -hyper["lr"]}
        return c, {}

    def move(self, params: Array, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        weight, norm = c["weight_square"].sqrt(), c["grad_square"].sqrt()
        if "decay" in c:
            norm, grad = norm + weight * c["decay"], grad + params * c["decay"]
        v = state["momentum_buffer"] * c["momentum"] + grad * trust_ratio(weight * c["trust"], norm)
        return params + v * c["minus_lr"], {"momentum_buffer": v}

    def _squares(self, params: Array, grad: Array, state: State, c: Mapping[str, Scalar]) -> dict[str, Array]:
        return {"weight_square": params * params, "grad_square": grad * grad}
