"""Schedule-free SGD and AdamW: gradients are taken between a fast point and its running average, which is evaluated.

    y = (1 − β) z + β x                          where the gradient g is taken: the parameters in training
    r ← β₂ r + (1 − β₂) g ⊙ g,   u = g / (√r̂ + eps),   r̂ = r / (1 − β₂ᵗ)         AdamW;  u = g   SGD
    γ_t = lr · min(1, t / warmup_steps)
    z ← z − γ_t (u + λ y)
    x ← (1 − c_t) x + c_t z,   c_t = w_t / Σ_{i≤t} w_i,   w_t = tᵖ (max_{i≤t} γ_i)^q
    θ ← y in training, θ ← x to evaluate

The average takes the place of a falling learning rate, so that the length of the run need not be known. Both z and x
are kept, so that changing from one point to the other loses nothing, in half precision neither.

===== ========================= ===============================================
paper argument                  meaning
===== ========================= ===============================================
γ     ``lr``                    learning rate
β     ``momentum`` ``beta1``    share of x in y
p, q  ``r`` ``weight_lr_power`` powers of t and γ in the weights of the average
===== ========================= ===============================================

Source: Defazio et al. 2024 (arXiv 2405.15682), algorithm 1; q and the powers as in the package ``schedulefree``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from thalweg.rules.rule import Array, Decay, Rule, Scalar, State, larger, smaller

_OF_BOTH = {"warmup_steps": 0.0, "r": 0.0, "weight_lr_power": 2.0, "weight_decay": 0.0}


@dataclass(frozen=True)
class ScheduleFreeSGD(Rule):
    """Schedule-free SGD; what is evaluated is the state ``x``."""

    name: ClassVar[str] = "schedule-free-sgd"
    defaults: ClassVar[Mapping[str, float]] = {"lr": 1.0, "momentum": 0.9, **_OF_BOTH}
    decay: ClassVar[Decay] = "direction"
    scalar_state: ClassVar[Mapping[str, float]] = {"lr_max": 0.0, "weight_sum": 0.0}
    shown: ClassVar[str | None] = "x"

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {"z": None, "x": None}

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        lr = hyper["lr"] * smaller(t / larger(hyper["warmup_steps"], 1.0), 1.0)
        lr_max = larger(lr, scalars["lr_max"])
        weight = t ** hyper["r"] * lr_max ** hyper["weight_lr_power"]
        total = scalars["weight_sum"] + weight
        share = weight / (total + (1.0 - 1.0 * (total > 0)))  # nothing is averaged before the learning rate is above 0
        return {"minus_lr": -lr, "share": share, "beta": self._beta(hyper)}, {"lr_max": lr_max, "weight_sum": total}

    def move(self, params: Array, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        direction, new = self._direction(grad, state, c)
        if "decay" in c:
            direction = direction + params * c["decay"]
        z = state["z"] + direction * c["minus_lr"]
        x = state["x"] + (z - state["x"]) * c["share"]
        return z + (x - z) * c["beta"], {**new, "z": z, "x": x}

    def _beta(self, hyper: Mapping[str, Scalar]) -> Scalar:
        return hyper["momentum"]

    def _direction(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        return grad, {}


@dataclass(frozen=True)
class ScheduleFreeAdamW(ScheduleFreeSGD):
    """Schedule-free AdamW."""

    name: ClassVar[str] = "schedule-free-adamw"
    defaults: ClassVar[Mapping[str, float]] = {"lr": 2.5e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, **_OF_BOTH}

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {"z": None, "x": None, "exp_avg_sq": 0.0}

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        c, scalars = super().coefficients(hyper, t, scalars)
        beta2 = hyper["beta2"]
        c |= {"beta2": beta2, "one_minus_beta2": 1 - beta2, "root_correction": (1 - beta2**t) ** -0.5}
        return c | {"eps": hyper["eps"]}, scalars

    def _beta(self, hyper: Mapping[str, Scalar]) -> Scalar:
        return hyper["beta1"]

    def _direction(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        r = state["exp_avg_sq"] * c["beta2"] + grad * grad * c["one_minus_beta2"]
        return grad / (r.sqrt() * c["root_correction"] + c["eps"]), {"exp_avg_sq": r}
