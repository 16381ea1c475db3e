"""The figures of a diagnosis: over depth and over learning rates."""

from collections.abc import Mapping
from html import escape
from itertools import accumulate
from typing import Any

from thalweg.compare.report.figures import figure
from thalweg.compare.report.traces import COLOURS, ticks

BOUNDS = (1e-3, 1e3)


def diagnosis_figures(diagnosis: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the figures that a diagnosis, as plain values, has something to show in."""
    found = []
    if len(diagnosis["profile"]) > 1:
        text = (
            "Signal: the variation of a layer's output between examples, and the growth of a small difference, "
            "relative to the first layer. Gradient: the gradient of the loss with respect to the layer's output, "
            "relative to the last layer. Values between the lines, 1e-3 and 1e3, are normal. Below: the share of units "
            "that are dead or saturated."
        )
        found.append(figure("depth", "Over depth", text, _depth(diagnosis["profile"])))
    if diagnosis["range_test"]:
        text = (
            "The loss while the learning rate of gradient descent increases from step to step. Each step is "
            "measured by its effect on the next batch, which it has not seen. "
            + _sentence(diagnosis["range_test"]["why"])
        )
        found.append(figure("range", "Learning-rate range", text, _range(diagnosis["range_test"])))
    return found


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _depth(profile: list[Mapping[str, Any]]) -> dict[str, Any]:
    layers = [escape(p["layer"]) or "the model" for p in profile]

    def line(name: str, field: str, base: float | None, colour: str, dash: str) -> dict[str, Any]:
        sizes = [p[field] / base if p[field] and base else None for p in profile]
        trace = {"type": "scatter", "mode": "lines+markers", "name": name, "x": layers, "y": sizes}
        return trace | {
            "line": {"color": colour, "dash": dash},
            "text": layers,
            "hovertemplate": f"%{{text}}<br>{name} %{{y:.2g}}<extra></extra>",
        }

    gradients = [p["gradient"] for p in profile if p["gradient"]]
    traces = [
        line("signal", "signal", profile[0]["signal"], COLOURS[0], "solid"),
        line("gradient", "gradient", gradients[-1] if gradients else None, COLOURS[1], "dash"),
        line("growth of a difference", "growth", 1.0, COLOURS[2], "dot"),
    ]
    idle = [None if p["idle"] is None else 100 * p["idle"] for p in profile]
    bars = {"type": "bar", "name": "idle units", "x": layers, "y": idle, "yaxis": "y2", "showlegend": False}
    hover = {"hovertext": layers, "hovertemplate": "%{hovertext}<br>%{y:.0f} % idle<extra></extra>"}
    look = {"marker": {"color": COLOURS[3]}, **hover}
    traces.append({**bars, **look})
    rule = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "line": {"dash": "dot", "width": 1, "color": COLOURS[-1]},
    }
    scale = {"type": "log", "exponentformat": "power", "domain": [0.32, 1], "automargin": True}
    names = ticks(p["layer"] or "the model" for p in profile)
    layout = {
        "xaxis": {
            "title": {"text": "layer, in the order in which they run"},
            "type": "category",
            "anchor": "y2",
            "automargin": True,
            **names,
        },
        "yaxis": {"title": {"text": "times the first, or the last"}, **scale},
        "yaxis2": {"title": {"text": "idle units (%)"}, "range": [0, 100], "domain": [0, 0.22], "automargin": True},
        "shapes": [rule | {"y0": bound, "y1": bound} for bound in BOUNDS],
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        "showlegend": True,
        "height": 620 if names else 460,  # long names stand below the axis
    }
    return {"data": traces, "layout": layout}


def _range(test: Mapping[str, Any]) -> dict[str, Any]:
    changes = [c for c in test["changes"] if c is not None]
    paired = list(accumulate(changes, initial=test["losses"][0] or 0.0))[1:]
    own: dict[str, Any] = {"type": "scatter", "name": "loss of each step's own batch"}
    own |= {"mode": "markers", "marker": {"color": COLOURS[-1], "size": 4, "opacity": 0.6}}
    smooth: dict[str, Any] = {"type": "scatter", "name": "without the differences between batches"}
    smooth |= {"mode": "lines", "line": {"color": COLOURS[0]}}
    lrs = test["lrs"]
    traces = [{**own, "x": lrs, "y": test["losses"]}, {**smooth, "x": lrs[: len(paired)], "y": paired}]
    marks = [(test["best"], "suggested"), (test["highest"], "rises from here")]
    look = {"dash": "dot", "width": 1.5, "color": COLOURS[1]}
    place = {"textposition": "start", "textangle": 0, "xanchor": "left", "font": {"color": COLOURS[1]}}
    rule = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "line": look}
    shapes = [rule | {"x0": lr, "x1": lr, "label": place | {"text": word}} for lr, word in marks if lr is not None]
    seen = [v for v in (*paired, *test["losses"]) if v is not None]
    low, high = min(seen), min(max(seen), 2 * (test["losses"][0] or 1.0))
    margin = 0.1 * (high - low)
    layout = {
        "xaxis": {"title": {"text": "learning rate"}, "type": "log", "exponentformat": "power"},
        "yaxis": {"title": {"text": "training loss"}, "range": [low - margin, high + margin], "automargin": True},
        "shapes": shapes,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        "showlegend": True,
        "height": 400,
    }
    return {"data": traces, "layout": layout}
