"""What all figures share: a strategy has the same colour, dash and symbol in each of them, and names are short."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import takewhile
from typing import Any

# Okabe & Ito's colours, which colour-blind readers can tell apart, the black replaced; then others.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#999933", "#b2182b", "#7f7f7f"]
GREY = COLOURS[-1]
DASHES = ["solid", "dash", "dot", "dashdot", "longdash"]
SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagon", "star", "bowtie"]
LONGEST = 26  # characters of a name on an axis: more would leave a phone no place for the figure

Results = Mapping[str, Any]
Trace = dict[str, Any]


def palette(names: Sequence[str]) -> dict[str, str]:
    """Returns a colour for each name."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(sorted(names))}


def in_colour(results: Results) -> list[str]:
    """Returns the strategies that have a colour of their own: all, or the first of many that could be the best.

    The others are grey, as nobody tells more than ten colours apart.
    """
    names = [s["name"] for s in results["strategies"]]
    if len(names) <= len(COLOURS):
        return sorted(names)
    verdict = results["verdict"]
    first = verdict["candidates"] if verdict else names
    return sorted(first[: len(COLOURS) - 1])


def colours(results: Results) -> dict[str, str]:
    """Returns the colour of each strategy, in their order; grey for those that have none of their own."""
    own = palette(in_colour(results))
    return {s["name"]: own.get(s["name"], GREY) for s in results["strategies"]}


def grey_first(results: Results) -> list[Mapping[str, Any]]:
    """Returns the strategies in the order in which lines are drawn: what has a colour lies above what has none."""
    coloured = set(in_colour(results))
    return sorted(results["strategies"], key=lambda s: s["name"] in coloured)


def look(results: Results, strategy: Mapping[str, Any]) -> tuple[str, str, str]:
    """Returns colour, dash and symbol: a strategy has the same in every figure."""
    names = in_colour(results)
    if strategy["name"] not in names:
        return GREY, "solid", "circle"
    i = names.index(strategy["name"])
    return COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)], SYMBOLS[i % len(SYMBOLS)]


def trace(strategy: Mapping[str, Any], x: Sequence[Any], y: Sequence[Any], mode: str = "", **more: Any) -> Trace:
    """Returns a trace of a strategy, which the page shows and hides with all others of it."""
    name = strategy["name"]
    shared = {"type": "scatter", "name": escape(name), "meta": {"strategy": name}, "showlegend": False}
    return {**shared, "x": x, "y": y, **({"mode": mode} if mode else {}), **more}


def shortened(name: str, most: int = LONGEST) -> str:
    """Returns a name with its middle left out where it is longer than ``most`` characters.

    >>> shortened("encoder.layers.11.attention.output.dense")
    'encoder.layer…output.dense'
    >>> shortened("0.weight")
    '0.weight'
    """
    if len(name) <= most:
        return name
    kept = most - 1
    return f"{name[: kept - kept // 2]}…{name[len(name) - kept // 2 :]}"


def apart(names: Sequence[str], most: int = LONGEST) -> list[str]:
    """Returns names shortened so that they differ where the names do: those that would not keep what tells them apart.

    >>> apart([f"encoder.layers.{i}.attention.output.dense" for i in (3, 4)])
    ['…der.layers.3.attention.…', '…der.layers.4.attention.…']
    """
    found = [shortened(name, most) for name in names]
    for short in {short for short in found if found.count(short) > 1}:
        alike = sorted({name for name, own in zip(names, found, strict=True) if own == short})
        head = _in_common(alike)
        tail = min(_in_common([name[::-1] for name in alike]), min(map(len, alike)) - head)
        for i, name in enumerate(names):
            if name in alike and len(alike) > 1:
                around = max(0, most - 2 - (len(name) - head - tail)) // 2
                first, last = max(0, head - around), len(name) - max(0, tail - around)
                found[i] = "…" * (first > 0) + name[first:last] + "…" * (last < len(name))
    return found


def _in_common(names: Sequence[str]) -> int:
    """Returns how many letters all names begin with."""
    return sum(1 for _ in takewhile(lambda letters: len({*letters}) == 1, zip(*names, strict=False)))


def ticks(names: Iterable[str]) -> dict[str, Any]:
    """Returns an axis of names, shortened where they are long: what points show on hover has them whole."""
    given = list(names)
    if all(len(name) <= LONGEST for name in given):
        return {}
    shown = [escape(name) for name in apart(given)]
    return {"tickmode": "array", "tickvals": [escape(name) for name in given], "ticktext": shown}


def is_empty(plot: Mapping[str, Any]) -> bool:
    """Says whether a figure would show nothing: no point, and no bar of any length."""
    for one in plot["data"]:
        least = "x" if one.get("orientation") == "h" else "y"
        points = zip(one["x"], one["y"], strict=False)
        if any(None not in (x, y) and (one["type"] != "bar" or {"x": x, "y": y}[least]) for x, y in points):
            return False
    return True
