"""The capacity of the store and the report: over 100,000 trials of 50 points each, written by rungs and reported."""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import table
from tests.serve.synthetic import Writer
from thalweg.compare.storage.result import Curve, TrialResult

NAMES = ("sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "nadam", "adam", "adamw", "adam@cosine")
TRIALS, POINTS, SEEDS = 100_000, 50, 20


class Load(Writer):
    """Writes records whose curves all have :data:`POINTS` points, and notes the seconds that the store takes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, NAMES, trials=TRIALS // len(NAMES) - 1, steps=POINTS, seeds=SEEDS)
        self.seconds_written, self.records, self.points = 0.0, 0, 0
        draws = random.Random(0)
        self._curves = [_curve(draws) for _ in range(1000)]
        self._write, self.store.add = self.store.add, self._timed  # type: ignore[method-assign]

    def _timed(self, rung: str, records: Sequence[Any]) -> None:
        began = time.perf_counter()
        self._write(rung, records)
        self.seconds_written += time.perf_counter() - began
        self.records += len(records)
        self.points += sum(len(result.curve.step) for *_, result in records)

    def result(self, name: str, i: int, key: str, start: int, stop: int, test: bool) -> TrialResult:
        """Returns one of the prepared curves as a finished run's."""
        curve = self._curves[(i * 7 + len(name) + stop) % len(self._curves)]
        return TrialResult(key, "finished", stop, curve, 2.3, curve.valid_metric[-1] if test else None)


def _curve(draws: random.Random) -> Curve:
    curve, level = Curve(), draws.random()
    for step in range(1, POINTS + 1):
        height = level * step / POINTS + 0.01 * draws.random()
        curve.add(step, 2.3 - height - 0.1 * draws.random(), 2.3 - height, height)
    return curve


def measure() -> dict[str, Any]:
    """Returns points written a second, and seconds, memory and bytes of ``thalweg report``, in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "study"
        load = Load(folder)
        load.begin()
        for rung in ("tune-1", "tune-2", "tune-3", "final"):
            load.rung(rung)
        load.finish()
        load.store.close()
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "thalweg", "report", folder], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        if status:
            raise RuntimeError(f"thalweg report ended with {status}")
        return {
            "records": load.records,
            "points": load.points,
            "points_per_second": load.points / load.seconds_written,
            "store_bytes": (folder / "study.sqlite").stat().st_size,
            "report_seconds": seconds,
            "report_memory_bytes": usage.ru_maxrss * 1024,
            "page_bytes": (folder / "report.html").stat().st_size,
            "results_bytes": (folder / "results.json").stat().st_size,
        }


def show(found: dict[str, Any]) -> str:
    """Returns the table."""
    rows = [
        ["points written per second", found["points_per_second"], "at least 20,000"],
        ["report, including the start of Python (s)", found["report_seconds"], "under 60"],
        ["memory of the report, torch included (MB)", found["report_memory_bytes"] / 1e6, "under 1,000"],
        ["page, including Plotly's script (MB)", found["page_bytes"] / 1e6, "under 10"],
        ["results.json (MB)", found["results_bytes"] / 1e6, None],
        ["store (MB)", found["store_bytes"] / 1e6, None],
    ]
    return f"{found['records']:,} records, {found['points']:,} points.\n\n" + table(["", "measured", "goal"], rows)
