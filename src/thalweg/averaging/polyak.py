"""Polyak averaging: the arithmetic mean of the points that the run has come through."""

from dataclasses import dataclass

from thalweg.averaging.averaging import Averaging, Scalar


@dataclass(frozen=True)
class Polyak(Averaging):
    """Arithmetic average, θ̄_t = (1/t) Σ θ_i, by w_t = 1/t; with ``start`` s of θ_{s+1} … θ_t alone.

    On convex costs it converges at the best rate that there is, with a learning rate that falls more slowly than
    1/t. Once t is large an increment is easily below half a unit in the last place of θ̄, and lost: for more than
    some 100 000 points keep a float32 model's average in float64.

    Arguments:
        start: steps before the average, 0 by default; ``Polyak().tail(0.5, steps)`` averages the last half of a run.

    >>> [round(Polyak().weight(t), 3) for t in (1, 2, 3)]
    [1.0, 0.5, 0.333]
    >>> Polyak().tail(0.25, steps=1000)
    Polyak(start=750)

    Source: Deep Learning, §8.7.3; Polyak & Juditsky 1992; tails: Jain et al. 2018; with a high constant learning
    rate and deep networks: Izmailov et al. 2018 (SWA).
    """

    def weight_of(self, n: Scalar) -> Scalar:
        return 1 / n
