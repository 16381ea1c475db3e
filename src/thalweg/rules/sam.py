"""SAM: the gradient of any rule's step is taken a little uphill, where the loss is largest nearby.

    g = ∇J(θ)
    e = ρ g / ‖g‖               the norm over all parameters;  adaptive: ρ θ² ⊙ g / ‖|θ| ⊙ g‖
    θ ← the inner rule's step from θ with ∇J(θ + e)

A step evaluates two gradients, of the same minibatch. As a rule it is two half steps, one for each: the first goes to
θ + e and leaves θ in the state ``point``, the second takes the inner rule's step from there.

====== ===================== =========================================
paper  argument              meaning
====== ===================== =========================================
ρ      ``sam_rho``           how far uphill
====== ===================== =========================================

Source: Foret et al. 2020 (arXiv 2010.01412), algorithm 1; Kwon et al. 2021 (arXiv 2102.11600), adaptive.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from thalweg.rules.around import Around
from thalweg.rules.rule import Array, Round, Scalar, State


@dataclass(frozen=True)
class SAM(Around):
    """A rule that takes its gradient uphill; ``coefficients`` counts half steps.

    >>> from thalweg.rules import RULES
    >>> SAM(RULES["momentum"]).evaluations
    2
    """

    adaptive: bool = False

    evaluations: ClassVar[int] = 2

    def __post_init__(self) -> None:
        self._needs_one_point()

    @property
    def name(self) -> str:
        return f"{self.inner.name}+{'asam' if self.adaptive else 'sam'}"

    @property
    def defaults(self) -> Mapping[str, float]:
        return {**self.inner.defaults, "sam_rho": 0.5 if self.adaptive else 0.05}

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {**self.inner.buffers, "point": None}

    @property
    def rounds(self) -> tuple[Round, ...]:
        inner = (Round(one.names, partial(self._of_inner, one), one.over, one.mean) for one in self.inner.rounds)
        return (Round(("uphill_square",), self._uphill_square, over="all"), *inner)

    @property
    def shown(self) -> str:
        return "point"

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        first = t % 2
        c, new = self.inner.coefficients(hyper, (t + first) / 2, scalars)
        second = 1 - first
        scalars = {name: scalars[name] * first + value * second for name, value in new.items()}
        return {**c, "first": 1.0 * first, "second": 1.0 * second, "sam_rho": hyper["sam_rho"]}, scalars

    def settle(self, c: Mapping[str, Scalar]) -> dict[str, Scalar]:
        return {name: c[name] * c["first"] + value * c["second"] for name, value in self.inner.settle(c).items()}

    def move(self, params: Array, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        point = self._point(params, state, c)
        moved, new = self.inner.move(point, grad, state, c)
        uphill = grad * point * point if self.adaptive else grad
        away = point + uphill * (c["sam_rho"] / (c["uphill_square"].sqrt() + 1e-12))
        new = {name: state[name] * c["first"] + value * c["second"] for name, value in new.items()}
        return away * c["first"] + moved * c["second"], {**new, "point": point * c["first"] + moved * c["second"]}

    def _point(self, params: Array, state: State, c: Mapping[str, Scalar]) -> Array:
        return params * c["first"] + state["point"] * c["second"]

    def _uphill_square(self, params: Array, grad: Array, state: State, c: Mapping[str, Scalar]) -> dict[str, Array]:
        uphill = grad * self._point(params, state, c) if self.adaptive else grad
        return {"uphill_square": uphill * uphill}

    def _of_inner(
        self, one: Round, params: Array, grad: Array, state: State, c: Mapping[str, Scalar]
    ) -> Mapping[str, Array]:
        return one.measure(self._point(params, state, c), grad, state, c)
