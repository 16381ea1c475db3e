"""Adadelta: the step is the gradient times the ratio of two running root mean squares, of past steps and of gradients.

    r ← ρ r + (1 − ρ) g ⊙ g
    Δ = √(u + eps) / √(r + eps) ⊙ g
    u ← ρ u + (1 − ρ) Δ ⊙ Δ
    θ ← θ − lr · Δ

Zeiler's method has no learning rate: lr = 1. ``eps`` is inside both roots; it also sets the size of the
first steps, since u starts at zero.

Source: Zeiler 2012 (arXiv 1212.5701); a curve of the comparison in Deep Learning, §8.5.4.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from thalweg.rules.rule import Array, Rule, Scalar, State


@dataclass(frozen=True)
class Adadelta(Rule):
    """Adadelta; torch's state names: ``square_avg`` is r, ``acc_delta`` is u."""

    name: ClassVar[str] = "adadelta"
    defaults: ClassVar[Mapping[str, float]] = {"lr": 1.0, "rho": 0.9, "eps": 1e-6, "weight_decay": 0.0}

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {"square_avg": 0.0, "acc_delta": 0.0}

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        rho = hyper["rho"]
        return {"rho": rho, "one_minus_rho": 1 - rho, "eps": hyper["eps"], "minus_lr": -hyper["lr"]}, {}

    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        r = state["square_avg"] * c["rho"] + grad * grad * c["one_minus_rho"]
        delta = (state["acc_delta"] + c["eps"]).sqrt() / (r + c["eps"]).sqrt() * grad
        u = state["acc_delta"] * c["rho"] + delta * delta * c["one_minus_rho"]
        return delta * c["minus_lr"], {"square_avg": r, "acc_delta": u}
