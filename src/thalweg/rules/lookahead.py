"""Lookahead: slow parameters that follow those of any rule, and take them back, every k steps.

    θ ← the inner rule's step
    every k steps: φ ← φ + α (θ − φ);   θ ← φ
    θ to train, φ to evaluate

====== ===================== ==========================================
paper  argument              meaning
====== ===================== ==========================================
k      ``lookahead_steps``   steps between two meetings
α      ``lookahead_alpha``   how far the slow parameters go to the fast
====== ===================== ==========================================

Source: Zhang et al. 2019 (arXiv 1907.08610), algorithm 1; the inner rule keeps its state, and φ is evaluated, as in the
authors' code.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from thalweg.rules.around import Around
from thalweg.rules.rule import Array, Scalar, State


@dataclass(frozen=True)
class Lookahead(Around):
    """A rule whose parameters meet slow ones from time to time.

    >>> from thalweg.rules import RULES
    >>> Lookahead(RULES["sgd"]).shown
    'slow'
    """

    def __post_init__(self) -> None:
        self._needs_one_point()

    @property
    def defaults(self) -> Mapping[str, float]:
        return {**self.inner.defaults, "lookahead_steps": 5.0, "lookahead_alpha": 0.5}

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {**self.inner.buffers, "slow": None}

    @property
    def shown(self) -> str:
        return "slow"

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        c, scalars = self.inner.coefficients(hyper, t, scalars)
        apart = 1.0 * (t % hyper["lookahead_steps"] > 0)
        return {
            **c,
            "apart": apart,
            "meet": 1.0 - apart,
            "slow_rate": hyper["lookahead_alpha"] * (1.0 - apart),
        }, scalars

    def move(self, params: Array, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        fast, new = self.inner.move(params, grad, state, c)
        slow = state["slow"] + (fast - state["slow"]) * c["slow_rate"]
        return fast * c["apart"] + slow * c["meet"], {**new, "slow": slow}
