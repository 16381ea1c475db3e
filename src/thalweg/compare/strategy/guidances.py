"""What training may be guided by: the names, and what is tuned of each."""

from collections.abc import Mapping
from typing import NamedTuple


class Tuned(NamedTuple):
    """Hyperparameters that a guidance has beside the optimizer's: defaults, and the ranges in which they are tuned."""

    defaults: Mapping[str, float] = {}
    space: Mapping[str, tuple[float, float]] = {}


_OVER = Tuned({"over": 0.5}, {"over": (0.1, 0.9)})  # share of the run at whose end all examples are admitted

GUIDANCES: Mapping[str, Tuned] = {
    "greedy": Tuned(),
    "transfer": Tuned(),
    "fitnet": Tuned(),
    "curriculum": _OVER,
    "curriculum-stochastic": _OVER,
    "anti-curriculum": _OVER,
    "random-curriculum": _OVER,
    "smoothing": Tuned({"sigma": 0.03}, {"sigma": (1e-3, 0.3)}),
}
