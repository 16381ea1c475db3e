"""The figures as Plotly's plain JSON: data here, colours and dark mode in the page."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from thalweg.compare.report.ranking import ranking, ranking_text
from thalweg.compare.report.thinning import sampling_note, share, thinned
from thalweg.compare.report.traces import COLOURS, Results, Trace, grey_first, in_colour, is_empty, look, ticks, trace

FIRST = 20  # values of k that are always drawn: there the curve is steep


def figures(results: Results) -> list[dict[str, Any]]:
    """Returns the figures in their order: ``id``, ``title``, ``text`` for the reader, ``plot`` for Plotly.

    Those that need final runs are left out of a study that is not finished. One that would show nothing is a sentence
    that says so, and its ``plot`` is None.
    """
    metric = results["task"]["metric"]
    target = results["task"]["target"]
    tried = max((len(s["sensitivity"]) for s in results["strategies"]), default=0)
    words = f"the validation {metric} {target:.4g}" if target is not None else "a target that no strategy reached"
    curves = (
        "Median over the seeds, where a diverged run counts as the worst"
        + ("; the band covers the middle half." if len(results["strategies"]) <= len(COLOURS) else ".")
        if results["verdict"]
        else "Each strategy's best configuration so far."
    )
    if len(results["strategies"]) > len(COLOURS):
        first = "could be the best" if results["verdict"] else "are the best so far"
        curves += f" In colour: the first {len(in_colour(results))} of those that {first}; the others are grey."
    sensitivity = (
        f"Validation {metric} of every configuration tried. "
        "Open symbols stopped at the first rung; crosses at the margin diverged."
        + (
            " Bars mark what the final runs trained with, at their own validation scores, or at the margin where they "
            "diverged; the taller ones are recommended."
            if results["verdict"]
            else ""
        )
        + sampling_note(results, "configurations", tried)
    )
    expected = f"Average result of tuning with k configurations (validation {metric})." + sampling_note(
        results, "values of k", tried
    )
    times = f"Gradient evaluations to reach {words}, median over the seeds."
    failures = "Share of configurations whose loss became NaN or exceeded ten times its first value."
    tuned = [
        ("curves", "Learning curves", curves, _curves),
        ("sensitivity", "Learning-rate sensitivity", sensitivity, _sensitivity),
        ("expected", "Expected best of k configurations", expected, _expected),
    ]
    reached = ("target", "Time to target", times, _time_to_target)
    diverged = ("divergences", "Divergences", failures, _divergences)
    some = any(s["trials"] for s in results["strategies"])
    shown = [*tuned, diverged] if some else []
    if results["verdict"]:
        shown = [("ranking", "Ranking", ranking_text(results), ranking), *tuned, reached, diverged]
    nothing = {
        "ranking": "No final run ended with a number.",
        "curves": "No run trained, so there are no learning curves.",
        "sensitivity": "No strategy has a learning rate that is tuned.",
        "expected": "No configuration was trained to its end.",
        "target": f"No strategy reached {words} in most of its runs."
        if target is not None
        else "No strategy reached a target, so none could be chosen.",
        "divergences": f"None of the {sum(s['trials'] for s in results['strategies']):,} configurations diverged.",
    }
    drawn = [(name, title, text, draw(results)) for name, title, text, draw in shown]
    return [
        figure(name, title, nothing[name], None) if is_empty(plot) else figure(name, title, text, plot)
        for name, title, text, plot in drawn
    ]


def figure(name: str, title: str, text: str, plot: dict[str, Any] | None) -> dict[str, Any]:
    """Returns a figure as the page takes it; without a plot it is its text alone."""
    return {"id": name, "title": title, "text": text, "plot": plot}


def _curves(results: Results) -> dict[str, Any]:
    """Returns the learning curves over gradient evaluations; over the seconds of a run where lengths differ."""
    traces, budget = [], results["budget"]
    timed = budget.get("lengths")
    scale = {s["name"]: budget["run_seconds"] / timed[s["name"]] if timed else 1 for s in results["strategies"]}
    coloured, has_bands = set(in_colour(results)), len(results["strategies"]) <= len(COLOURS)
    for s in grey_first(results):
        colour, dash, _ = look(results, s)
        curves = s["curves"]
        per = scale[s["name"]]
        meta = {"strategy": s["name"], "seconds": None if timed else s["seconds_per_step"]}
        for axis, field in (("", "train_loss"), ("2", "valid_metric")):
            place = {"xaxis": f"x{axis}", "yaxis": f"y{axis}", "meta": meta}
            known = [i for i, v in enumerate(curves[field]["median"]) if v is not None]
            steps = [curves["step"][i] * per for i in known]
            both = [i for i in known if None not in (curves[field]["low"][i], curves[field]["high"][i])]
            inside = [curves["step"][i] * per for i in both]
            low, high = ([curves[field][side][i] for i in both] for side in ("low", "high"))
            band: Trace = {"fill": "toself", "fillcolor": colour, "opacity": 0.15, "line": {"width": 0}}
            band |= {"hoverinfo": "skip", **place}
            middle = [curves[field]["median"][i] for i in known]
            if has_bands:
                traces.append(trace(s, inside + inside[::-1], high + low[::-1], "lines", **band))
            if s["name"] in coloured:
                line: Trace = {"line": {"color": colour, "dash": dash, "width": 2}}
            else:
                line = {"line": {"color": colour, "width": 1}, "opacity": 0.5}
            traces.append(trace(s, steps, middle, "lines", **line, **place))
    metric = escape(results["task"]["metric"])
    layout = {
        "grid": {"rows": 2, "columns": 1, "pattern": "independent", "ygap": 0.12},
        "xaxis": {"type": "log", "matches": "x2", "showticklabels": False},
        "xaxis2": {"type": "log", "title": {"text": "seconds of a run" if timed else "gradient evaluations"}},
        "yaxis": {"type": "log", "title": {"text": "training loss"}, "exponentformat": "power", "automargin": True},
        "yaxis2": {"title": {"text": f"validation {metric}"}, "automargin": True},
        "height": 640,
        "hovermode": "closest",
    }
    if metric == "loss":
        layout["yaxis2"]["type"] = "log"  # type: ignore[index]
    return {"data": traces, "layout": layout}


def _sensitivity(results: Results) -> dict[str, Any]:
    traces = []
    ends = [p["valid"] for s in results["strategies"] for p in (*s["sensitivity"], *s.get("runs", []))]
    known = [valid for valid in ends if valid is not None]
    better, worst = (min, max) if results["task"]["direction"] == "min" else (max, min)
    margin = worst(known) - 0.05 * (better(known) - worst(known)) if known else 0.0
    for s in grey_first(results):
        colour, dash, symbol = look(results, s)
        points = sorted((p for p in s["sensitivity"] if p["lr"] is not None), key=lambda p: p["lr"])
        fine = [p for p in points if p["valid"] is not None]
        best = [better(fine, key=lambda p: p["valid"])] if fine else []
        fine = thinned(fine, share(results), *best)
        symbols = [symbol if p["status"] == "finished" else f"{symbol}-open" for p in fine]
        style: Trace = {"line": {"color": colour, "dash": dash, "width": 1}, "marker": {"symbol": symbols, "size": 8}}
        traces.append(trace(s, [p["lr"] for p in fine], [p["valid"] for p in fine], "lines+markers", **style))
        for runs, words, size in _chosen(s):
            marks = thinned(runs, share(results))
            line = {"width": size / 8, "color": colour}
            style = {"marker": {"color": colour, "symbol": "line-ns", "size": size, "line": line}}
            style["hovertemplate"] = f"lr %{{x}}: %{{y}}, {words}<extra></extra>"
            heights = [margin if r["valid"] is None else r["valid"] for r in marks]
            traces.append(trace(s, [r["hyperparameters"]["lr"] for r in marks], heights, "markers", **style))
        lost = thinned([p["lr"] for p in points if p["valid"] is None], share(results))
        if lost:
            style = {"marker": {"color": colour, "symbol": "x", "size": 9}}
            style["hovertemplate"] = "lr %{x}: diverged<extra></extra>"
            traces.append(trace(s, lost, [margin] * len(lost), "markers", **style))
    layout = {
        "xaxis": {"type": "log", "title": {"text": "learning rate"}, "exponentformat": "power", "dtick": 1},
        "yaxis": {"title": {"text": f"validation {escape(results['task']['metric'])}"}, "automargin": True},
        "height": 420,
    }
    return {"data": traces, "layout": layout}


def _chosen(strategy: Mapping[str, Any]) -> list[tuple[list[Mapping[str, Any]], str, int]]:
    """Returns final runs, which they are and the size of their bars: of other configurations, and the recommended."""
    recommended = strategy["hyperparameters"]
    if "runs" not in strategy or "lr" not in recommended:
        return []
    others = [r for r in strategy["runs"] if r["hyperparameters"] != recommended]
    same = [r for r in strategy["runs"] if r["hyperparameters"] == recommended]
    # Where runs were not all needed, none may have trained with what is recommended.
    best = same or [{"hyperparameters": recommended, "valid": strategy["valid"]}]
    return [*([(others, "a final run", 10)] if others else []), (best, "recommended", 22)]


def _expected(results: Results) -> dict[str, Any]:
    traces = []
    for s in grey_first(results):
        colour, dash, symbol = look(results, s)
        points = list(enumerate(results["expected_best"][s["name"]], start=1))
        drawn = thinned(points, share(results), *points[:FIRST])
        marker = {"color": colour, "symbol": symbol, "size": 6}
        k, best = [k for k, _ in drawn], [best for _, best in drawn]
        traces.append(trace(s, k, best, "lines+markers", line={"color": colour, "dash": dash}, marker=marker))
    layout = {
        "xaxis": {"title": {"text": "configurations tried, k"}},
        "yaxis": {"title": {"text": f"expected validation {escape(results['task']['metric'])}"}, "automargin": True},
        "height": 420,
    }
    return {"data": traces, "layout": layout}


def _bars(results: Results, values: Sequence[float | None], words: Sequence[str], title: str) -> dict[str, Any]:
    traces, longest = [], max([v for v in values if v is not None], default=0)
    for s, value, word in zip(results["strategies"], values, words, strict=True):
        colour = look(results, s)[0]
        place = "inside" if (value or 0) > 0.6 * longest else "outside"
        bar: Trace = {
            "type": "bar",
            "orientation": "h",
            "text": [escape(word)],
            "cliponaxis": False,
            "textposition": place,
        }
        bar |= {"marker": {"color": colour}, "hovertemplate": "%{x:.4g}<extra>%{fullData.name}</extra>"}
        traces.append(trace(s, [value or 0], [escape(s["name"])], **bar))
    names = [escape(s["name"]) for s in results["strategies"]]
    layout = {
        "barmode": "overlay",
        "xaxis": {"title": {"text": title}, "rangemode": "tozero"},
        "yaxis": {"categoryorder": "array", "categoryarray": names[::-1], "automargin": True}
        | ticks(s["name"] for s in results["strategies"]),
        "height": 90 + 34 * len(names),
    }
    return {"data": traces, "layout": layout}


def _time_to_target(results: Results) -> dict[str, Any]:
    values = [s["to_target"]["gradient_evaluations"] for s in results["strategies"]]
    words = []
    for s in results["strategies"]:
        t = s["to_target"]
        reached = f"{t['reached']} of {s['failed']['of']} seeds"
        words.append(
            f"{t['seconds']:.2g} s, {reached}" if t["seconds"] is not None else f"not reached by most ({reached})"
        )
    return _bars(results, values, words, "gradient evaluations to the target")


def _divergences(results: Results) -> dict[str, Any]:
    values = [100 * s["diverged"] / max(1, s["trials"]) for s in results["strategies"]]
    words = [f"{s['diverged']} of {s['trials']}" for s in results["strategies"]]
    return _bars(results, values, words, "diverged configurations (%)")
