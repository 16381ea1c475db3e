"""The schemes by name: how each draws a weight, its law in words, and whether it heeds the nonlinearity."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Generator, Tensor

from thalweg.initialization.orthogonal import orthogonal_
from thalweg.initialization.sparse import INPUTS, sparse_
from thalweg.initialization.weights import constant_, glorot_normal_, glorot_uniform_, he_, too_large_, uniform_fan_in_


class Scheme(NamedTuple):
    """How a weight ``(units, inputs, *kernel)`` is drawn.

    Attributes:
        draw: in place, from (weight, generator, gain).
        law: the distribution in words, from (fan-in, fan-out, gain).
        heeds: whether it has a gain.
        published: the gain of the scheme as it was published.
        square: what 1/variance of a weight is proportional to, from (fan-in, fan-out); None where it is neither's.
        scaled: whether the weights are then scaled by a batch, see :mod:`thalweg.initialization.data_driven`.
    """

    draw: Callable[[Tensor, Generator | None, float], Tensor]
    law: Callable[[float, int, float], str]
    heeds: bool = False
    published: float = 1.0
    square: Callable[[float, int], float] | None = None
    scaled: bool = False

    def __call__(self, weight: Tensor, generator: Generator | None = None) -> Tensor:
        """Draws one weight in place, with the published gain; returns it."""
        return self.draw(weight, generator, self.published)

    def stretch(self, m: int, n: int, share: float) -> float:
        """Returns the factor on weights of which only a share of the fan-in m meets in an output, on average."""
        return 1.0 if self.square is None else (self.square(m, n) / self.square(m * share, n)) ** 0.5


def _sparse(weight: Tensor, generator: Generator | None, gain: float) -> Tensor:
    # A layer narrower than the scheme's number of inputs is drawn densely.
    inputs = weight.shape[1:].numel()
    return sparse_(weight, generator, k=min(INPUTS, inputs)) if inputs else weight


def _fan_in(m: float, n: int) -> float:
    return m


def _both_fans(m: float, n: int) -> float:
    return m + n


SCHEMES: dict[str, Scheme | None] = {
    "default": None,  # each module's own reset
    "uniform-fan-in": Scheme(
        lambda w, g, gain: uniform_fan_in_(w, g).mul_(gain),
        lambda m, n, gain: f"U(±{gain * m**-0.5:.3g})",
        square=_fan_in,
    ),
    "glorot-uniform": Scheme(
        glorot_uniform_, lambda m, n, gain: f"U(±{gain * (6 / (m + n)) ** 0.5:.3g})", True, square=_both_fans
    ),
    "glorot-normal": Scheme(
        glorot_normal_, lambda m, n, gain: f"N(0, {gain * (2 / (m + n)) ** 0.5:.3g}²)", True, square=_both_fans
    ),
    "he": Scheme(he_, lambda m, n, gain: f"N(0, {gain * m**-0.5:.3g}²)", True, 2**0.5, _fan_in),
    "orthogonal": Scheme(orthogonal_, lambda m, n, gain: f"{gain:.3g} · orthogonal", True, square=_fan_in),
    "lsuv": Scheme(lambda w, g, _: orthogonal_(w, g), lambda m, n, _: "orthogonal", scaled=True),
    "first-small": Scheme(
        lambda w, g, _: glorot_normal_(w, g), lambda m, n, _: f"N(0, {(2 / (m + n)) ** 0.5:.3g}²)", scaled=True
    ),
    "sparse": Scheme(_sparse, lambda m, n, _: f"N(0, 1) for {min(INPUTS, m)} of {m} inputs"),
    "constant": Scheme(lambda w, g, _: constant_(w, g), lambda m, n, _: "0.1"),
    "too-large": Scheme(lambda w, g, _: too_large_(w, g), lambda m, n, _: f"N(0, {10 * m**-0.5:.3g}²)"),
}


def scheme_of(name: str) -> Scheme | None:
    """Returns the scheme of this name, None for ``"default"``.

    Raises:
        ValueError: unknown name.
    """
    if name not in SCHEMES:
        raise ValueError(f"unknown scheme {name!r}: choose among {', '.join(SCHEMES)}")
    return SCHEMES[name]
