"""MARS, the approximate version: the gradient is corrected by how much it differs from the one before, then limited.

    c = g + γ β / (1 − β) (g − g′)         g′ the gradient of the step before, 0 at first; β the rule's momentum
    c ← c / max(1, ‖c‖)                    the norm of each parameter tensor
    θ ← the inner rule's step with c in the place of g

The exact version would evaluate g′ on the minibatch of this step, at twice the cost.

Source: Yuan et al. 2024 (arXiv 2411.10438), algorithm 1 and section 4.1; g′ at first as in the authors' code,
AGI-Arena/MARS.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from thalweg.rules.around import Around
from thalweg.rules.rule import Array, Round, Scalar, State


@dataclass(frozen=True)
class Mars(Around):
    """A rule with a momentum, given gradients of less variance.

    >>> from thalweg.rules import RULES
    >>> Mars(RULES["adamw"]).defaults["mars_gamma"]
    0.025
    """

    def __post_init__(self) -> None:
        self._needs_step()
        if "beta1" not in self.inner.defaults and "momentum" not in self.inner.defaults:
            raise ValueError(f"mars does not go around {self.inner.name}, which has no momentum")

    @property
    def defaults(self) -> Mapping[str, float]:
        return {**self.inner.defaults, "mars_gamma": 0.025}

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {**self.inner.buffers, "last_grad": 0.0}

    @property
    def rounds(self) -> tuple[Round, ...]:
        inner = (Round(one.names, partial(self._of_inner, one), one.over, one.mean) for one in self.inner.rounds)
        return (Round(("mars_square",), self._square), *inner)

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        c, scalars = self.inner.coefficients(hyper, t, scalars)
        beta = hyper["beta1"] if "beta1" in self.inner.defaults else hyper["momentum"]
        return {**c, "mars": hyper["mars_gamma"] * beta / (1 - beta)}, scalars

    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        step, new = self.inner.update(self._corrected(grad, state, c), state, c)
        return step, {**new, "last_grad": grad}

    def _corrected(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> Array:
        return _differed(grad, state, c) / c["mars_square"].sqrt().clamp_min(1.0)

    def _square(self, params: Array, grad: Array, state: State, c: Mapping[str, Scalar]) -> dict[str, Array]:
        corrected = _differed(self.decayed(params, grad, c)[1], state, c)
        return {"mars_square": corrected * corrected}

    def _of_inner(
        self, one: Round, params: Array, grad: Array, state: State, c: Mapping[str, Scalar]
    ) -> Mapping[str, Array]:
        # With a weight decay in the gradient, the inner rule would add it to the corrected one again.
        grad = self._corrected(self.decayed(params, grad, c)[1], state, c)
        return one.measure(params, grad, state, {name: value for name, value in c.items() if name != "decay"})


def _differed(grad: Array, state: State, c: Mapping[str, Scalar]) -> Array:
    return grad + (grad - state["last_grad"]) * c["mars"]
