"""The page: verdict first, then tables and figures; every word of the user's escaped."""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from thalweg.compare.arguments import in_words as duration
from thalweg.compare.ranges import in_words, shown
from thalweg.compare.report.diagnosis import diagnosis_figures
from thalweg.compare.report.figures import figures
from thalweg.compare.report.numbers import columns, interval, number
from thalweg.compare.report.traces import Results, colours, in_colour, shortened
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
        "colours": colours(results),
        "coloured": in_colour(results),
        "paste": _paste(results),
        "columns": columns(results) if results["verdict"] else {},
        "timed": results.get("judge", {}).get("by", "metric") != "metric",
        "marked": bool(results["verdict"] and results["verdict"]["behind"]),
    }


def _paste(results: Results) -> dict[str, Any] | None:
    """Returns the recommended configuration's lines to paste; None where nothing is recommended."""
    use = results["verdict"] and results["verdict"]["use"]
    found = next((s for s in results["strategies"] if s["name"] == use), None)
    if found is None:
        return None
    lines = found["recipe"]["pytorch"] or []
    return {"name": use, "scheduled": any("scheduler" in line for line in lines), **found["recipe"]}


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
            data=inert((*shown, *diagnosis), strategies),
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
        "number": number,
        "interval": interval,
        "setting": shown,
        "space": in_words,
        "duration": duration,
        "shortened": shortened,
        "settings": lambda values: [f"{name} {shown(value)}" for name, value in values.items()],
    }
    return environment


def asset(name: str) -> str:
    """Returns the text of a file of this folder."""
    return resources.files("thalweg.compare.report").joinpath(name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def inert(figures: Iterable[Mapping[str, Any]], strategies: Sequence[str]) -> str:
    """Returns what the script draws as JSON that cannot end the script element it stands in."""
    plots = {f["id"]: f["plot"] for f in figures if f["plot"] is not None}
    text = json.dumps({"figures": plots, "strategies": list(strategies)}, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
