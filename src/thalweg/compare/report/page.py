"""The page: verdict first, then tables and figures; every word of the user's escaped."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from thalweg.compare.arguments import in_words as duration
from thalweg.compare.ranges import in_words, shown
from thalweg.compare.report.diagnosis import diagnosis_figures
from thalweg.compare.report.figures import figures
from thalweg.compare.report.traces import palette
from thalweg.extras import needs
from thalweg.tensors.files import write_text

with needs("compare", "a report"):
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

PLOTLY = "plotly/plotly-basic.min.js"  # npm's plotly.js-basic-dist-min 4.1.1 as it is: scatter and bar charts


def render(results: Mapping[str, Any]) -> str:
    """Returns the report of ``results.json``'s content as one HTML document.

    Scripts are admitted by their hashes alone (Content-Security-Policy), data travels as inert JSON, and
    nothing is loaded from anywhere: a report is safe to open and to pass on.
    """
    return page("report.html.j2", **contents(results))


def contents(results: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the report's template is filled with."""
    names = [s["name"] for s in results["strategies"]]
    diagnosis = results.get("diagnosis")
    return {
        "shown": figures(results),
        "diagnosis": diagnosis_figures(diagnosis) if diagnosis else [],
        "strategies": names,
        "r": results,
        "d": diagnosis,
        "colours": palette(names),
        "timed": results.get("judge", {}).get("by", "metric") != "metric",
        "marked": bool(results["verdict"] and results["verdict"]["behind"]),
        "charged": any(s.get("charged") for s in results["strategies"]),
    }


def page(
    template: str,
    shown: list[dict[str, Any]],
    diagnosis: list[dict[str, Any]],
    strategies: Sequence[str] = (),
    folders: Sequence[str] = (),
    **words: Any,
) -> str:
    """Returns a template of this folder, or of others, as one document with its figures; see :func:`render`."""
    scripts = [asset(PLOTLY), asset("report.js")]
    return (
        environment(*folders)
        .get_template(template)
        .render(
            figures=shown,
            diagnosis_figures=diagnosis,
            data=inert({f["id"]: f["plot"] for f in (*shown, *diagnosis)}, strategies),
            scripts=scripts,
            hashes=" ".join(f"'sha256-{_sha256(script)}'" for script in scripts),
            style=asset("report.css"),
            **words,
        )
    )


def write_diagnosis(task: str, diagnosis: Mapping[str, Any], path: Path) -> None:
    """Writes the page of a diagnosis alone, whole or not at all."""
    worst = [f for f in diagnosis["findings"] if f["severity"] != "note"]
    verdict = f"{len(worst)} to fix: {', '.join(f['kind'] for f in worst)}." if worst else "No problem was found."
    text = page("diagnosis_page.html.j2", [], diagnosis_figures(diagnosis), task=task, d=diagnosis, verdict=verdict)
    write_text(text, path)


def environment(*folders: str) -> Environment:
    """Returns the templates of this folder, and of other packages' folders; they escape everything by default."""
    loaders = [PackageLoader(folder, "") for folder in (*folders, "thalweg.compare.report")]
    environment = Environment(loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {
        "number": _number,
        "interval": _interval,
        "setting": shown,
        "space": in_words,
        "duration": duration,
    }
    return environment


def asset(name: str) -> str:
    """Returns the text of a file of this folder."""
    return resources.files("thalweg.compare.report").joinpath(name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def inert(plots: Mapping[str, Any], strategies: Sequence[str]) -> str:
    """Returns what the script draws as JSON that cannot end the script element it stands in."""
    text = json.dumps({"figures": plots, "strategies": list(strategies)}, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _number(value: Any, digits: int = 4) -> str:
    """Returns a number to read; a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, int) or 1000 <= abs(value) < 1e9:
        return f"{round(value):,}".replace(",", "\u202f")
    return f"{value:.{digits}g}"


def _interval(of: Mapping[str, Any], digits: int = 4, kind: str = "") -> str:
    """Returns an interval to read, of bounds of a ``kind``; one dash where it has none.

    >>> _interval({"low": 0.25, "high": 0.5}), _interval({"low": None, "high": None})
    ('0.25 to 0.5', '–')
    >>> _interval({"low_seconds": 0.25, "high_seconds": None}, kind="_seconds")
    '0.25 or more'
    """
    of = {name: of[name + kind] for name in ("low", "high")}
    bounds = _number(of["low"], digits), _number(of["high"], digits)
    if kind and of["high"] is None is not of["low"]:
        return f"{bounds[0]} or more"
    return bounds[0] if of["low"] is of["high"] is None else " to ".join(bounds)
