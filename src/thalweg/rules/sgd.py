"""SGD: a step against the gradient, with Polyak's or Nesterov's momentum.

    v ← μ v + (1 − d) g            (v = g at the first step)
    θ ← θ − lr · g                 plain
    θ ← θ − lr · v                 momentum
    θ ← θ − lr · (g + μ v)         Nesterov, evaluated at θ

The book keeps the learning rate inside v (v ← αv − εg; θ ← θ + v). The two agree while ``lr`` is constant
and differ when a schedule changes it; this is torch's form. Nesterov is torch's reformulation (Sutskever
2013): its iterate is the book's θ + αv.

====== ============== =========================
book   argument       meaning
====== ============== =========================
ε      ``lr``         learning rate
α      ``momentum``   share of v kept, in [0, 1)
====== ============== =========================

Source: Deep Learning, §8.3, algorithms 8.1 to 8.3; Polyak 1964; Nesterov 1983; Sutskever et al. 2013.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from thalweg.rules.rule import Array, Rule, Scalar, State


@dataclass(frozen=True)
class SGD(Rule):
    """Stochastic gradient descent.

    ``momentum`` and ``nesterov`` choose the form; the amount is the hyperparameter ``momentum``.
    """

    momentum: bool = False
    nesterov: bool = False

    name: ClassVar[str] = "sgd"
    defaults: ClassVar[Mapping[str, float]] = {"lr": 1e-3, "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.0}

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {"momentum_buffer": 0.0} if self.momentum or self.nesterov else {}

    @property
    def sparse(self) -> Literal["rows", "all"]:
        return "all" if self.buffers else "rows"

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        c = {"minus_lr": -hyper["lr"]}
        if self.buffers:
            # The first gradient enters whole, as in torch: dampening begins at the second step.
            c |= {"momentum": hyper["momentum"], "share": 1 - hyper["dampening"] * (t > 1)}
        return c, {}

    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        if not self.buffers:
            return grad * c["minus_lr"], {}
        v = state["momentum_buffer"] * c["momentum"] + grad * c["share"]
        direction = grad + v * c["momentum"] if self.nesterov else v
        return direction * c["minus_lr"], {"momentum_buffer": v}
