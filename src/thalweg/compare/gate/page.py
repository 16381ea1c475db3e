"""The page of a gate: the answer, the bounds as the pairs came, every run."""

from collections.abc import Mapping
from typing import Any

from thalweg.compare.gate.judgement import judge
from thalweg.compare.gate.runs import Run
from thalweg.compare.report.figures import figure
from thalweg.compare.report.page import page
from thalweg.compare.report.traces import COLOURS
from thalweg.compare.sequential import LEAST

SERIES = "difference"


def render_gate(found: Mapping[str, Any]) -> str:
    """Returns the page of ``gate.json``'s content as one HTML document, which loads nothing from anywhere."""
    metric = found["metric"]
    runs = list(zip(found["runs"]["baseline"], found["runs"]["candidate"], strict=False))
    text = (
        f"Candidate − baseline in the test {metric} of each pair, and the bounds on its expectation after so many "
        "pairs, which hold at all of them together."
    )
    shown = [figure("sequence", "As the pairs came", text, _sequence(found))] if found["trained"] >= LEAST else []
    return page("gate.html.j2", shown, [], [SERIES], g=found, runs=runs)


def _sequence(found: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the differences of the pairs, and the bounds after each of them."""
    metric, sign = found["metric"], 1.0 if found["direction"] == "max" else -1.0
    one, two = ([_run(row, metric) for row in found["runs"][name]] for name in ("baseline", "candidate"))
    apart = [
        (i, b.score - a.score)
        for i, (a, b) in enumerate(zip(one, two, strict=False), start=1)
        if a.score is not None and b.score is not None
    ]
    bounds = []
    for n in range(LEAST, found["pairs"] + 1):
        low, high = judge(one[:n], two[:n], found["direction"]).gain[1:]
        if abs(low) < float("inf"):
            bounds.append((n, *sorted((sign * low, sign * high))))
    at = [n for n, _, _ in bounds]
    below, above = [low for _, low, _ in bounds], [high for _, _, high in bounds]
    colour = COLOURS[0]
    shared: dict[str, Any] = {"type": "scatter", "name": SERIES, "meta": {"strategy": SERIES}, "showlegend": False}
    band = {"fill": "toself", "fillcolor": colour, "opacity": 0.15, "line": {"width": 0}, "hoverinfo": "skip"}
    traces = [
        {**shared, "x": at + at[::-1], "y": above + below[::-1], "mode": "lines", **band},
        {**shared, "x": at, "y": below, "mode": "lines", "line": {"color": colour, "width": 2}},
        {**shared, "x": at, "y": above, "mode": "lines", "line": {"color": colour, "width": 2}},
        {
            **shared,
            "x": [i for i, _ in apart],
            "y": [d for _, d in apart],
            "mode": "markers",
            "marker": {"color": colour},
        },
    ]
    layout = {
        "xaxis": {"title": {"text": "pairs of runs"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "candidate − baseline"}, "automargin": True, "zeroline": True},
        "height": 420,
    }
    return {"data": traces, "layout": layout}


def _run(row: Mapping[str, Any], metric: str) -> Run:
    return Run(row["seed"], row[metric], row["status"])
