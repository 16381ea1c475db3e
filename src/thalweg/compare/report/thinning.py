"""Figures of a large study draw some of its points, evenly chosen, and say so; ``results.json`` has all."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

MOST = 10_000  # points in a figure: beyond, a page grows heavy and its points hide each other

Point = TypeVar("Point")


def share(results: Mapping[str, Any]) -> int:
    """Returns how many points a strategy has in a figure at most."""
    return max(50, MOST // max(1, len(results["strategies"])))


def thinned(points: Sequence[Point], most: int, *kept: Point) -> list[Point]:
    """Returns at most so many of the points, evenly chosen, first and last among them, and those to be kept.

    >>> thinned([0, 1, 2, 3, 4, 5, 6, 7, 8], 3, 7)
    [0, 4, 7, 8]
    >>> thinned([0, 1, 2], 3, 1)
    [0, 1, 2]
    """
    if len(points) <= most:
        return list(points)
    places = {round(i * (len(points) - 1) / (most - 1)) for i in range(most)}
    return [points[i] for i in sorted(places | {points.index(point) for point in kept})]


def sampling_note(results: Mapping[str, Any], what: str, count: int) -> str:
    """Returns a sentence on what is left out of so many points a strategy; nothing where all are drawn.

    >>> sampling_note({"strategies": [{}]}, "configurations", 20_000)
    ' Of 20,000 configurations per strategy, 10,000 are drawn, evenly chosen; results.json contains all of them.'
    """
    drawn = share(results)
    if count <= drawn:
        return ""
    return f" Of {count:,} {what} per strategy, {drawn:,} are drawn, evenly chosen; results.json contains all of them."
