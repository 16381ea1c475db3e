"""Which final runs failed: those that diverged, or are hardly better than a model that learned nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

TRAINED = 0.1  # share of the way to the best typical run that a run covers if it trained


@dataclass(frozen=True)
class Untrained:
    """Test scores of models that learned nothing.

    Attributes:
        scores: of untrained models, by what decides where a run begins.
        constant: of the best constant model; None where it is not known.
    """

    scores: Mapping[str, Sequence[float]]
    constant: float | None


def failed(
    scores: Mapping[str, Sequence[float | None]],
    direction: str,
    untrained: Mapping[str, Sequence[float]],
    first: int | None = None,
) -> dict[str, list[bool]]:
    """Returns which runs of each strategy failed.

    Arguments:
        scores: test metric of each run, None where it diverged.
        direction: of the metric.
        untrained: of each strategy, scores of models that learned nothing, from which a run has to get away.
        first: runs of each strategy that say what the best typical run is, so that it stays as more are made; None for
            all.

    >>> failed({"a": [0.9, 0.1, None], "b": [0.8, 0.8, 0.7]}, "max", {"a": [0.1], "b": [0.1]})
    {'a': [False, True, True], 'b': [False, False, False]}
    """
    sign = 1 if direction == "max" else -1
    known = {name: own[:first] for name, own in scores.items()}
    ends = [sign * median(ended) for s in known.values() if (ended := [x for x in s if x is not None])]
    best = max(ends, default=math.nan)
    found = {}
    for name, own in scores.items():
        start = max((sign * x for x in untrained[name] if math.isfinite(x)), default=-math.inf)
        least = start + TRAINED * (best - start) if math.isfinite(start) and best > start else start
        is_constant = all(x is None or sign * x == start for one in known.values() for x in one)  # it tells nothing
        found[name] = [x is None or (sign * x <= least and not is_constant) for x in own]
    return found
