"""An estimate of the distance to the minimum from the decrease of the gradient, independent of the scale of f.

    D = max over earlier places i of ℓ_i ‖∇f‖ / (‖∇f_i‖ − ‖∇f‖)

over those with ‖∇f_i‖ ≥ 2 ‖∇f‖ and the last one, ℓ_i being the way from there to here. D is where the gradient would
vanish if it went on falling as it did at its slowest. So a fall by any factor says nothing while the curvature falls
alike, as on the tail of an exponential, and short steps say nothing where the gradient stays, as at a kink.
Multiplying f by a constant changes nothing, multiplying x multiplies all that is compared.
"""

import math

import torch
from torch import Tensor

SHARE = 1e-3  # of the start's size: an x that is smaller counts as this, as on the way to a minimum at the origin


class Approach:
    """Follows a way from place to place; all norms are largest absolute values.

    Attributes: ``start``, ‖x‖ where it began; ``moved``, how far the last two places are from each other.
    """

    def __init__(self) -> None:
        self.start, self.moved = math.nan, math.inf
        self._way, self._last, self._now = 0.0, math.inf, math.inf
        self._places: list[tuple[float, float]] = []  # ‖∇f‖, each half the one before or less, and the way up to there

    def visit(self, norm: float, size: float, moved: float = math.inf) -> None:
        """Takes in a place: its ‖∇f‖, its ‖x‖, and how far it is from the last one, if it is not the first."""
        if self._places:
            self._way += moved
        else:
            self.start = size
        self.moved, self._last, self._now = moved, self._now, norm
        if not self._places or norm <= 0.5 * self._places[-1][0]:
            self._places.append((norm, self._way))

    def note(self, norm: float, behind: float) -> None:
        """Takes in a gradient that was seen so far from here."""
        self._places.append((norm, self._way - behind))

    def scale(self, size: float) -> float:
        """Returns what distances are measured by where ‖x‖ is this."""
        return max(size, SHARE * self.start)

    def distance(self) -> float:
        """Returns D but for the last place."""
        return max((self._from(*place) for place in self._larger()), default=math.inf)

    def last_distance(self) -> float:
        """Returns D from the last place alone."""
        return self._from(self._last, self._way - self.moved) if self._last > self._now else math.inf

    def _larger(self) -> list[tuple[float, float]]:
        return [place for place in self._places if place[0] >= 2 * self._now and place[0] > 0]

    def _from(self, norm: float, way: float) -> float:
        return (self._way - way) * (self._now / (norm - self._now))

    def rescale(self, factor: float) -> None:
        """Goes on with factor · f."""
        self._places = [(norm * factor, way) for norm, way in self._places]
        self._last, self._now = self._last * factor, self._now * factor

    def state(self) -> Tensor:
        """Returns what a later descent needs ``(6,)``."""
        norm, way = max(self._larger(), key=lambda place: self._from(*place), default=(self._now, self._way))
        numbers = [self.start, self.moved, norm, self._way - way, self._last, self._now]
        return torch.tensor(numbers, dtype=torch.float64)

    def load(self, state: Tensor) -> None:
        """Goes on from what :meth:`state` returned."""
        self.start, self.moved, norm, self._way, self._last, self._now = state.tolist()
        self._places = [(norm, 0.0)]
