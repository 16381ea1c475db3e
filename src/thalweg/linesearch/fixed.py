"""The step as it is given: no search.

    α = first

Source: Deep Learning, §8.6; §8.3.1, where the learning rate takes the line search's place.
"""

from dataclasses import dataclass

from thalweg.linesearch.search import Found, Line, LineSearch, Point, Steps, follow


@dataclass(frozen=True)
class Fixed(LineSearch):
    """The first step, whether the value falls or rises; no step where it is not finite.

    >>> def phi(a):
    ...     return Point(a, (a - 1) ** 2, 2 * (a - 1))
    >>> Fixed()(phi, phi(0.0), 0.25)
    Found(point=Point(step=0.25, value=0.5625, slope=-1.5, payload=None), status='fixed', evaluations=1)
    """

    def __call__(self, phi: Line, start: Point, first: float) -> Found:
        return follow(self._steps(first), lambda p: "fixed", phi, start, cap=1)

    def _steps(self, first: float) -> Steps:
        if first > 0:
            yield first
