"""A rule around another: what it does not change is the inner rule's."""

from collections.abc import Mapping
from dataclasses import dataclass

from thalweg.rules.rule import Array, Decay, Round, Rule, Scalar, State


@dataclass(frozen=True)
class Around(Rule):
    """Base class of the rules that change another."""

    inner: Rule

    @property
    def name(self) -> str:
        return f"{self.inner.name}+{type(self).__name__.lower()}"

    @property
    def defaults(self) -> Mapping[str, float]:
        return self.inner.defaults

    @property
    def decay(self) -> Decay:
        return self.inner.decay

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return self.inner.buffers

    @property
    def scalar_state(self) -> Mapping[str, float]:
        return self.inner.scalar_state

    @property
    def numbers(self) -> Mapping[str, float]:
        return self.inner.numbers

    @property
    def rounds(self) -> tuple[Round, ...]:
        return self.inner.rounds

    @property
    def shown(self) -> str | None:
        return self.inner.shown

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        return self.inner.coefficients(hyper, t, scalars)

    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        return self.inner.update(grad, state, c)

    def settle(self, c: Mapping[str, Scalar]) -> dict[str, Scalar]:
        return self.inner.settle(c)

    def _needs_step(self) -> None:
        """Raises ValueError unless the inner rule makes a step from the gradient alone, which can be changed."""
        if type(self.inner).move is not Rule.move:
            raise ValueError(
                f"{type(self).__name__.lower()} does not go around {self.inner.name}, whose step is not made of the "
                "gradient alone: use it with SGD with momentum, Adam, AdamW, NAdam, Lion, Adan or AdEMAMix"
            )

    def _needs_one_point(self) -> None:
        """Raises ValueError if the inner rule evaluates another point than it trains, as this one does."""
        if self.inner.shown is not None:
            raise ValueError(
                f"{type(self).__name__.lower()} does not go around {self.inner.name}, which evaluates a point of its "
                "own: use one of the two"
            )
