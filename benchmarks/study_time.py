"""The duration of the default study, with cold and warm compile caches, and the share of the store and the report."""

import json
import os
import subprocess
import sys
import tempfile
from statistics import median
from typing import Any

from benchmarks.measure import table

PROBE = """
import json, sys, time
from pathlib import Path
spent = {"store": 0.0, "results and report": 0.0}
def timed(owner, name, key):
    function = getattr(owner, name)
    def wrapper(*args, **kwargs):
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[key] += time.perf_counter() - began
    setattr(owner, name, wrapper)
began = time.perf_counter()
import thalweg
from thalweg.compare.comparison import Comparison
from thalweg.compare.storage.store import Store
for name in ("add_fact", "add", "rung", "snapshot"):
    timed(Store, name, "store")
timed(Comparison, "write", "results and report")
from_store = Comparison.from_store.__func__
def reported(*args, **kwargs):
    at = time.perf_counter()
    try:
        return from_store(*args, **kwargs)
    finally:
        spent["results and report"] += time.perf_counter() - at
Comparison.from_store = classmethod(reported)
thalweg.compare("digits", out=Path(sys.argv[1]) / "study")
print(json.dumps({"all": time.perf_counter() - began, **spent}))
"""


def measure(rounds: int = 3) -> dict[str, Any]:
    """Returns medians in seconds; "all" begins with ``import thalweg``."""
    runs: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            for kind in ("cold", "warm"):
                with tempfile.TemporaryDirectory() as out:
                    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
                    words = [sys.executable, "-c", PROBE, out]
                    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
                runs[kind].append(json.loads(done.stdout.splitlines()[-1]))
    found: dict[str, Any] = {
        kind: {key: median(run[key] for run in kind_runs) for key in kind_runs[0]} for kind, kind_runs in runs.items()
    }
    for one in found.values():
        one["share"] = (one["store"] + one["results and report"]) / one["all"]
    return found


def show(found: dict[str, Any]) -> str:
    """Returns the table."""
    rows = [
        [f"{kind} compile cache", one["all"], one["store"], one["results and report"], f"{one['share']:.1%}"]
        for kind, one in found.items()
    ]
    return table(["", "whole study (s)", "store (s)", "results and report (s)", "share of the two"], rows)
