"""The guidances that a strategy can name: what guides a run, and what is tuned of it beside the optimizer."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class GuidanceEntry(NamedTuple):
    """One guidance.

    Arguments:
        made_by: module and class in :mod:`thalweg.compare.execution.guidance`, loaded when a run is first guided.
        settings: what the class is made with.
        defaults: hyperparameters of the guidance, beside the optimizer's.
        space: the ranges in which they are tuned.
    """

    made_by: str
    settings: Mapping[str, Any] = {}
    defaults: Mapping[str, float] = {}
    space: Mapping[str, tuple[float, float]] = {}


def _curriculum(**settings: Any) -> GuidanceEntry:
    """Returns a curriculum, of which the share of the run is tuned at whose end all examples are admitted."""
    return GuidanceEntry("curriculum.Curriculum", settings, {"over": 0.5}, {"over": (0.1, 0.9)})


GUIDANCES: Mapping[str, GuidanceEntry] = {
    "greedy": GuidanceEntry("greedy.Greedy"),
    "transfer": GuidanceEntry("transfer.Transfer"),
    "fitnet": GuidanceEntry("fitnet.FitNet"),
    "curriculum": _curriculum(order="easy-first"),
    "curriculum-stochastic": _curriculum(order="easy-first", mixture=0.2),
    "anti-curriculum": _curriculum(order="hard-first"),
    "random-curriculum": _curriculum(order="random"),
    "smoothing": GuidanceEntry("smoothing.Smoothing", {}, {"sigma": 0.03}, {"sigma": (1e-3, 0.3)}),
}
