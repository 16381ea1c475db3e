"""AdaGrad: each coordinate's rate falls with the root of the sum of all its squared gradients.

    r ← r + g ⊙ g
    θ ← θ − lr_t / (√r + eps) ⊙ g,   lr_t = lr / (1 + (t − 1) lr_decay)

====== ======================== =====================================================
book   argument                 meaning
====== ======================== =====================================================
ε      ``lr``                   global learning rate
δ      ``eps``                  added outside the root; 1e-7 in the book, 1e-10 here as in torch
r      state ``sum``            starts at ``initial_accumulator_value``
====== ======================== =====================================================

Source: Deep Learning, §8.5.1, algorithm 8.4; Duchi, Hazan & Singer 2011.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from thalweg.rules.rule import Array, Rule, Scalar, State


@dataclass(frozen=True)
class AdaGrad(Rule):
    """AdaGrad; the accumulator starts at ``initial_accumulator_value``."""

    initial_accumulator_value: float = 0.0

    name: ClassVar[str] = "adagrad"
    defaults: ClassVar[Mapping[str, float]] = {"lr": 1e-2, "lr_decay": 0.0, "eps": 1e-10, "weight_decay": 0.0}

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {"sum": self.initial_accumulator_value}

    @property
    def sparse(self) -> Literal["rows"]:
        return "rows"

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        return {"minus_lr": -hyper["lr"] / (1 + (t - 1) * hyper["lr_decay"]), "eps": hyper["eps"]}, {}

    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        r = state["sum"] + grad * grad
        return grad * c["minus_lr"] / (r.sqrt() + c["eps"]), {"sum": r}
