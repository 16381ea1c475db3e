"""The ranking by what is judged: each final run, what is typical of a strategy, and its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median
from typing import Any

from thalweg.compare.report.thinning import sampling_note, share, thinned
from thalweg.compare.report.traces import Results, Trace, look, ticks, trace

HOVER = "%{x:.5g}<extra>%{fullData.name}</extra>"


@dataclass(frozen=True)
class Drawn:
    """What is drawn of a strategy.

    Attributes:
        dots: a number for each final run that trained, or that reached the target.
        crosses: the same for the others; of a time it is the length of a run.
        typical: None where there is none, or where it is not reached.
        low, high: its interval.
    """

    dots: Sequence[float]
    crosses: Sequence[float]
    typical: float | None
    low: float | None
    high: float | None

    @property
    def all(self) -> list[float]:
        """Everything that is known of it."""
        return [v for v in (*self.dots, *self.crosses, self.low, self.high) if v is not None]


def drawn(results: Results, strategy: Mapping[str, Any]) -> Drawn:
    """Returns what is judged of a strategy."""
    runs, judge = strategy["runs"], results["judge"]["by"]
    if judge == "metric":
        dots, crosses = (
            [r["test"] for r in runs if r["failed"] == failed and r["test"] is not None] for failed in (False, True)
        )
        test = strategy["test"]
        return Drawn(dots, crosses, test["typical"], test["low"], test["high"])
    per = strategy["seconds_per_step"] if judge == "seconds-to-target" else 1
    end, times = strategy["steps"] * per, [r["steps_to_target"] for r in runs]
    dots = [t * per for t in times if t is not None]
    typical, low, high = (
        None if (v := strategy["to_target"][k]) is None else v * per for k in ("steps", "low_steps", "high_steps")
    )
    return Drawn(dots, [end] * times.count(None), typical, low, end if high is None and low is not None else high)


def ranking_text(results: Results) -> str:
    """Returns what the reader should know of the figure."""
    task, judge = results["task"], results["judge"]["by"]
    if judge == "metric":
        better = "higher" if task["direction"] == "max" else "lower"
        failed = any(s["failed"]["count"] for s in results["strategies"])
        text = (
            f"Test {task['metric']} ({better} is better) of each strategy's final runs: the mean of the middle three "
            "fifths of those that trained and its 95 % interval, with one dot per run."
            + (" Runs that failed are crosses, and those that diverged are left out." if failed else "")
        )
    else:
        missed = any(s["to_target"]["reached"] < s["to_target"]["of"] for s in results["strategies"])
        text = (
            f"{_axis(results).capitalize()} (lower is better) of each strategy's final runs: the median and its 95 % "
            "interval, with one dot per run."
            + (" Crosses at the end of the run mark those that did not reach it, and intervals without an upper bound "
               "end there." if missed else "")
        )  # fmt: skip
    return text + sampling_note(results, "seeds", results["budget"]["seeds"])


def ranking(results: Results) -> dict[str, Any]:
    """Returns the figure."""
    traces, found = [], [drawn(results, s) for s in results["strategies"]]
    for s, own in zip(results["strategies"], found, strict=True):
        colour, _, symbol = look(results, s)
        label = escape(s["name"])
        for values, dot in ((own.dots, "circle"), (own.crosses, "x")):
            dots = thinned(values, share(results))
            if dots:
                marker: Trace = {"color": colour, "opacity": 0.4, "size": 6, "symbol": dot}
                traces.append(trace(s, dots, [label] * len(dots), "markers", marker=marker, hovertemplate=HOVER))
        bars: Trace = {}
        if own.typical is not None and own.low is not None and own.high is not None:
            sides = {"array": [own.high - own.typical], "arrayminus": [own.typical - own.low]}
            bars["error_x"] = {"type": "data", "symmetric": False, **sides, "color": colour, "thickness": 2}
        marker = {"color": colour, "size": 11, "symbol": symbol}
        traces.append(trace(s, [own.typical], [label], "markers", marker=marker, hovertemplate=HOVER, **bars))
    names = [escape(s["name"]) for s in results["strategies"]]
    near, whole = (_padded(view) for view in _views(found))
    layout = {
        "xaxis": {"title": {"text": escape(_axis(results))}, "range": near},
        "yaxis": {"categoryorder": "array", "categoryarray": names[::-1], "automargin": True}
        | ticks(s["name"] for s in results["strategies"]),
        "height": 90 + 38 * len(names),
    }
    views = {"near": near, "all": whole} if near != whole else {}
    return {"data": traces, "layout": layout, "views": views}


def _axis(results: Results) -> str:
    task, judge = results["task"], results["judge"]["by"]
    if judge == "metric":
        return f"test {task['metric']}"
    goal = "" if task["target"] is None else f" {task['target']:.4g}"
    what = "seconds of training" if judge == "seconds-to-target" else "gradient evaluations"
    return f"{what} to validation {task['metric']}{goal}"


def _views(found: Sequence[Drawn]) -> tuple[list[float], list[float]]:
    """Returns the stretch of the axis that shows the good strategies apart; what is far off lies outside."""
    trained = [(own.typical, own) for own in found if own.typical is not None and own.dots]
    if not trained:
        failed = [v for own in found for v in own.crosses]
        return (view := [min(failed, default=0.0), max(failed, default=1.0)]), view
    best = trained[0][0]
    gap = median(abs(typical - best) for typical, _ in trained)
    spread = median(max(own.dots) - min(own.dots) for _, own in trained)
    margin = 3 * max(gap, spread) or 1.0
    values = [v for own in found if own.crosses or own.typical is not None for v in own.all]
    near = [v for v in values if abs(v - best) <= margin]
    return [min(near), max(near)], [min(values), max(values)]


def _padded(view: Sequence[float]) -> list[float]:
    margin = 0.04 * (view[1] - view[0]) or 1e-3 * abs(view[0]) or 1e-3
    return [view[0] - margin, view[1] + margin]
