"""RMSProp: AdaGrad with a memory that fades, so that it forgets the far past.

    r ← ρ r + (1 − ρ) g ⊙ g
    s = g / (√r + eps)               torch's form; g / √(r + eps) with eps_inside_sqrt (the book's)
    θ ← θ − lr · s                   plain
    v ← α v + s;  θ ← θ − lr · v             momentum, as torch has it
    v ← α v + s;  θ ← θ − lr · (s + α v)     Nesterov (book algorithm 8.6), evaluated at θ

Centered subtracts the squared running mean of the gradient from r. The Nesterov form is the book's
algorithm with its interim point θ + αv as the iterate, the same change of variable as in SGD.

====== =============== =====================================================================
book   argument        meaning
====== =============== =====================================================================
ε      ``lr``          global learning rate
ρ      ``alpha``       decay of r; torch's name and default 0.99
α      ``momentum``    share of v kept
δ      ``eps``         1e-6 inside the root in the book; 1e-8 outside in torch, the default here
====== =============== =====================================================================

Source: Deep Learning, §8.5.2, algorithms 8.5 and 8.6; Hinton 2012 (lecture 6e); Graves 2013 (centered).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from thalweg.rules.rule import Array, Rule, Scalar, State


@dataclass(frozen=True)
class RMSProp(Rule):
    """RMSProp; the fields choose the form."""

    momentum: bool = False
    nesterov: bool = False
    centered: bool = False
    eps_inside_sqrt: bool = False

    name: ClassVar[str] = "rmsprop"
    defaults: ClassVar[Mapping[str, float]] = {
        "lr": 1e-2,
        "alpha": 0.99,
        "eps": 1e-8,
        "momentum": 0.9,
        "weight_decay": 0.0,
    }

    @property
    def buffers(self) -> Mapping[str, float | None]:
        names = ["square_avg", "grad_avg"][: 1 + self.centered]
        return dict.fromkeys(names + ["momentum_buffer"] * (self.momentum or self.nesterov), 0.0)

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        alpha = hyper["alpha"]
        c = {"alpha": alpha, "one_minus_alpha": 1 - alpha, "eps": hyper["eps"], "minus_lr": -hyper["lr"]}
        if self.momentum or self.nesterov:
            c["momentum"] = hyper["momentum"]
        return c, {}

    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        r = state["square_avg"] * c["alpha"] + grad * grad * c["one_minus_alpha"]
        new, variance = {"square_avg": r}, r
        if self.centered:
            mean = new["grad_avg"] = state["grad_avg"] * c["alpha"] + grad * c["one_minus_alpha"]
            variance = r - mean * mean
        root = (variance + c["eps"]).sqrt() if self.eps_inside_sqrt else variance.sqrt() + c["eps"]
        direction = grad / root
        if self.momentum or self.nesterov:
            v = new["momentum_buffer"] = state["momentum_buffer"] * c["momentum"] + direction
            direction = direction + v * c["momentum"] if self.nesterov else v
        return direction * c["minus_lr"], new
