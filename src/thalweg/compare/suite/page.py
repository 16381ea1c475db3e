"""The report of a suite: the answer, a table of outcomes, the performance profile, and every task's scores."""

from collections.abc import Mapping
from html import escape
from typing import Any

from thalweg.compare.report.figures import figure
from thalweg.compare.report.page import page
from thalweg.compare.report.traces import COLOURS, DASHES, palette


def render(found: Mapping[str, Any]) -> str:
    """Returns the report of ``suite.json``'s content as one HTML document."""
    summary = found["summary"]
    return page(
        "suite.html.j2",
        [_profile(summary)],
        [],
        list(summary["profiles"]),
        ["thalweg.compare.suite"],
        s=summary,
        tasks=found["tasks"],
        colours=palette(list(summary["profiles"])),
    )


def _profile(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the share of tasks on which each strategy reaches the target within a factor of the fewest steps."""
    ratios, names = summary["ratios"], sorted(summary["profiles"])
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": escape(name),
            "meta": {"strategy": name},
            "showlegend": False,
            "x": ratios,
            "y": [100 * share for share in summary["profiles"][name]],
            "line": {"shape": "hv", "color": COLOURS[i % len(COLOURS)], "dash": DASHES[i % len(DASHES)]},
        }
        for i, name in enumerate(names)
    ]
    layout = {
        "xaxis": {"title": {"text": "gradient evaluations, as a multiple of the fewest"}, "type": "log", "dtick": "D1"},
        "yaxis": {"title": {"text": "tasks whose target is reached (%)"}, "range": [-2, 102]},
    }
    words = (
        "Share of tasks on which the median run reaches the target within so many times the gradient evaluations of "
        "the first strategy that does. Higher is better; a strategy's score is the mean height of its line."
    )
    return figure("profile", "Performance profile", words, {"data": data, "layout": layout})
