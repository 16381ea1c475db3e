"""Where batch normalization and averaging help: studies of ten seeds on ``digits`` and, if it is there, on MNIST.

Each strategy has the same budget; the test accuracy is typical of its final runs, each of which has a tuning of its
own. ``THALWEG_DATA`` names the folder that holds MNIST.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import thalweg
from benchmarks.measure import table
from thalweg.compare.strategy import crossed

STRATEGIES = crossed(
    ["momentum", "adam"], {"normalization": ["none", "batch-norm"], "averaging": ["none", "ema", "polyak"]}
)


def measure() -> dict[str, Any]:
    """Returns what the studies found."""
    tasks = ["digits", *(["mnist"] if os.environ.get("THALWEG_DATA") else [])]
    found = {}
    for task in tasks:
        with tempfile.TemporaryDirectory() as folder:
            done = thalweg.compare(task, STRATEGIES, out=Path(folder) / "out").results
        found[task] = {
            "steps": done["budget"]["steps"],
            "sentence": done["verdict"]["sentence"],
            "strategies": [{"name": s["name"], **s["test"]} for s in done["strategies"]],
            "pairs": done["pairs"],
        }
    return found


def show(found: dict[str, Any]) -> str:
    """Returns a table a task, and the pairs that differ by one of the two alone."""
    parts = []
    for task, one in found.items():
        rows = [[s["name"], f"{s['typical']:.4f}", f"{s['low']:.4f} to {s['high']:.4f}"] for s in one["strategies"]]
        parts.append(f"{task}, {one['steps']} steps:\n\n{table(['strategy', 'test accuracy', '95 % interval'], rows)}")
        parts.append("\n".join(_differences(one["pairs"])))
    return "\n\n".join(parts)


def _differences(pairs: list[dict[str, Any]]) -> list[str]:
    by = {(p["a"], p["b"]): p for p in pairs}
    lines = []
    for optimizer in ("momentum", "adam"):
        for word in ("batch-norm", "ema", "polyak"):
            with_it = f"{optimizer}+{word}"
            p, sign = by.get((with_it, optimizer)), 1
            if p is None:
                p, sign = by[optimizer, with_it], -1
            low, high = sorted((sign * p["low"], sign * p["high"]))
            clear = "not clear" if p["better"] is None else f"{p['better']} is better"
            lines.append(
                f"- {word} with {optimizer}: {sign * p['difference']:+.4f} ({low:+.4f} to {high:+.4f}), {clear}."
            )
    return lines
