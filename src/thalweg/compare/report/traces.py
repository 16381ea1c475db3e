"""What all figures share: a strategy has the same colour, dash and symbol in each of them."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

# Okabe & Ito's colours, which colour-blind readers can tell apart, the black replaced; then others.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#999933", "#b2182b", "#7f7f7f"]
DASHES = ["solid", "dash", "dot", "dashdot", "longdash"]
SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagon", "star", "bowtie"]

Results = Mapping[str, Any]
Trace = dict[str, Any]


def palette(names: Sequence[str]) -> dict[str, str]:
    """Returns a colour for each name."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(sorted(names))}


def look(results: Results, strategy: Mapping[str, Any]) -> tuple[str, str, str]:
    """Returns colour, dash and symbol: a strategy has the same in every figure."""
    names = sorted(s["name"] for s in results["strategies"])
    i = names.index(strategy["name"])
    return COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)], SYMBOLS[i % len(SYMBOLS)]


def trace(strategy: Mapping[str, Any], x: Sequence[Any], y: Sequence[Any], mode: str = "", **more: Any) -> Trace:
    """Returns a trace of a strategy, which the page shows and hides with all others of it."""
    name = strategy["name"]
    shared = {"type": "scatter", "name": escape(name), "meta": {"strategy": name}, "showlegend": False}
    return {**shared, "x": x, "y": y, **({"mode": mode} if mode else {}), **more}
