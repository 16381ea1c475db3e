"""Cautious: of a rule's step only those coordinates that go against the gradient, made larger for those left out.

    φ = [−Δ ⊙ g > 0]                      1 where the rule's step Δ goes against g, 0 elsewhere
    θ ← θ + Δ ⊙ φ / max(mean(φ), 10⁻³)      the mean over each parameter tensor

Source: Liang et al. 2024 (arXiv 2411.16085), algorithm 1; the scale as in the authors' code, kyleliang919/C-Optim.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from thalweg.rules.around import Around
from thalweg.rules.rule import Array, Round, Scalar, State

LEAST = 1e-3


@dataclass(frozen=True)
class Cautious(Around):
    """A rule with a momentum, taken cautiously.

    >>> from thalweg.rules import RULES
    >>> Cautious(RULES["adamw"]).name
    'adamw+cautious'
    """

    def __post_init__(self) -> None:
        self._needs_step()

    @property
    def rounds(self) -> tuple[Round, ...]:
        return (*self.inner.rounds, Round(("aligned",), self._aligned, mean=True))

    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        step, state = self.inner.update(grad, state, c)
        return step * _against(step, grad) / c["aligned"].clamp_min(LEAST), state

    def _aligned(self, params: Array, grad: Array, state: State, c: Mapping[str, Scalar]) -> dict[str, Array]:
        _, grad = self.decayed(params, grad, c)
        return {"aligned": _against(self.inner.update(grad, state, c)[0], grad)}


def _against(step: Array, grad: Array) -> Array:
    return (-(step * grad)).sign().relu()
