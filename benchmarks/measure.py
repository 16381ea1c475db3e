"""What every question shares: alternating runs, medians, the machine, tables."""

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import torch


def alternately(runs: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Runs each in turn, ``rounds`` times, so that all meet the same weather; returns what they gave."""
    results: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            results[name].append(run())
    return results


def seconds(function: Callable[[], Any]) -> float:
    """Returns the seconds that one call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Returns the median over the rounds of the ratio within a round."""
    return median(a / b for a, b in zip(above, below, strict=True))


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Returns what the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a Markdown table; numbers get three significant digits."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "–" if value is None else str(value)
