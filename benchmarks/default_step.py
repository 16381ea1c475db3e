"""A step of each optimizer with default settings, compared with torch's with default settings, for three model sizes.

The models are perceptrons with two hidden layers, with given gradients; times are medians of steps of the two libraries
in turns.
"""

from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import nn

from benchmarks.measure import alternately, ratio, seconds, table
from thalweg import optim

WIDTHS = {"0.1 million": 190, "1 million": 680, "10 million": 2200}
METHODS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "momentum": (
        lambda p: optim.SGD(p, lr=1e-3, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9),
    ),
    "AdaGrad": (optim.AdaGrad, torch.optim.Adagrad),
    "RMSProp": (optim.RMSProp, torch.optim.RMSprop),
    "Adam": (optim.Adam, torch.optim.Adam),
    "NAdam": (optim.NAdam, torch.optim.NAdam),
}


def measure(rounds: int = 60) -> dict[str, Any]:
    """Returns medians in microseconds and ratios, for each method and size."""
    return {f"{method}, {size}": _measure(method, WIDTHS[size], rounds) for method in METHODS for size in WIDTHS}


def _measure(method: str, width: int, rounds: int) -> dict[str, float]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width // 2))
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    ours, theirs = (make(model.parameters()) for make in METHODS[method])
    runs = {"thalweg": lambda: seconds(ours.step), "torch": lambda: seconds(theirs.step)}
    alternately(runs, 5)
    found = alternately(runs, rounds)
    return {**{name: 1e6 * median(values) for name, values in found.items()}, "ratio": ratio(*found.values())}


def show(found: dict[str, Any]) -> str:
    """Returns the table."""
    rows = [[name, one["thalweg"], one["torch"], one["ratio"]] for name, one in found.items()]
    return table(["step", "thalweg (µs)", "torch (µs)", "times torch's time"], rows)
