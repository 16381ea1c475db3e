"""Newton's step leads to the nearest stationary point, be it a saddle; damping that outweighs H, or |H|, leads away."""

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from thalweg.compare.report.traces import COLOURS
from thalweg.curvature import exact_matrix
from thalweg.second_order import FunctionObjective, Limits, Place, newton

START = torch.tensor([0.25, 1.2], dtype=torch.float64)
WAYS: dict[str, dict[str, Any]] = {
    "α = 0": {"damping": "fixed", "alpha": 0.0},
    "fixed α = 0.3, too small": {"damping": "fixed", "alpha": 0.3},
    "fixed α = 2": {"damping": "fixed", "alpha": 2.0},
    "adaptive α": {"damping": "adaptive"},
    "saddle-free: |H|": {"damping": "saddle-free"},
}


def f(theta: Tensor) -> Tensor:
    """Returns x⁴/4 − x²/2 + y²/2 + xy/10 for a vector, or for each of ``(..., 2)``: two minima, a saddle at 0."""
    x, y = theta[..., 0], theta[..., 1]
    return x**4 / 4 - x**2 / 2 + y**2 / 2 + x * y / 10


def draw() -> Figure:
    """Returns the paths over the contours, and the height over the minimum by step."""
    figure = Figure(figsize=(9, 3.6))
    left, right = figure.subplots(1, 2)
    across, up = torch.linspace(-1.6, 1.6, 200), torch.linspace(-0.65, 1.4, 200)
    grid = torch.stack(torch.meshgrid(across, up, indexing="xy"), dim=-1)
    levels = [-0.24, -0.2, -0.12, -0.05, 0, 0.1, 0.25, 0.5, 0.8]
    left.contour(across, up, f(grid), levels=levels, colors="0.75", linewidths=0.8, linestyles="-")
    lowest = newton(FunctionObjective(f), torch.ones(2).double(), Limits(0.0)).place.value
    for i, (name, settings) in enumerate(WAYS.items()):
        points, values = [START.tolist()], [f(START).item()]

        def note(place: Place, points: list[list[float]] = points, values: list[float] = values) -> None:
            points.append(place.x.tolist())
            values.append(place.value)

        objective = FunctionObjective(f)
        report = newton(objective, START, Limits(1e-8), note, **settings)
        style: dict[str, Any] = {
            "color": COLOURS[i],
            "marker": "osD^v"[i],
            "ms": 4,
            "lw": 1.3,
            "zorder": 4 if i == 0 else 3,
        }
        left.plot(*zip(*points, strict=True), **style)
        heights = [max(value - lowest, 1e-16) for value in values]
        right.plot(range(len(values)), heights, label=name, **style)
        x, y = (v + 0.0 for v in report.place.x.round(decimals=4).tolist())  # + 0 makes −0 a plain 0
        value = round(report.place.value, 4) + 0.0
        curvature = objective.evaluate(report.place.x, curvature=True).curvature
        assert curvature is not None
        low, high = torch.linalg.eigvalsh(exact_matrix(curvature)).tolist()
        print(
            f"{name}: {report.iterations} steps to ({x:.3f}, {y:.3f}), f = {value:.3f}, "
            f"a {'saddle' if low < 0 else 'minimum'}: H has eigenvalues {low:.2f} and {high:.2f}"
        )
    left.annotate("saddle", (0, 0), (-0.25, -0.4), ha="center", arrowprops={"arrowstyle": "-", "color": "0.4"})
    left.text(1.0, -0.3, "minimum", ha="center")
    left.text(-1.0, 0.1, "minimum", ha="center", va="center")
    left.set(xlabel="x", ylabel="y")
    left.grid(False)
    right.set(xlabel="step", ylabel="f − f at the minimum", yscale="log", ylim=(3e-17, 30), xlim=(-1, 31))
    right.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.02))
    return figure
