"""Coordinate descent in the plane, and where it fails: two variables that depend on each other, and what helps."""

from collections.abc import Callable
from functools import partial

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from thalweg.compare.report.traces import COLOURS
from thalweg.coordinate import CoordinateDescent
from thalweg.second_order import minimize

START, GOAL, MOST = (-1.5, 2.0), 1e-6, 100_000
HARD = torch.tensor([1.0, 0.9], dtype=torch.float64)  # along the valley, where the way is long
ALPHAS = [10.0**-k for k in range(4)]


def plane(x: Tensor) -> Tensor:
    """Returns x₁² + x₂² − x₁x₂: each variable moves the other's minimum a little."""
    return (x**2).sum(-1) - x[..., 0] * x[..., 1]


def book(x: Tensor, alpha: float) -> Tensor:
    """Returns (x₁ − x₂)² + α‖x‖², the book's example."""
    return (x[..., 0] - x[..., 1]) ** 2 + alpha * (x**2).sum(-1)


def draw() -> Figure:
    """Returns the path on contours, that for strong dependence, and sweeps needed as α falls."""
    figure = Figure(figsize=(11, 3.6))
    left, middle, right = figure.subplots(1, 3)
    _path(left, plane, 4, "x₁² + x₂² − x₁x₂")
    _path(middle, partial(book, alpha=0.05), 25, "(x₁ − x₂)² + 0.05 ‖x‖²")
    _failure(right)
    return figure


def _path(axes: Axes, f: Callable[[Tensor], Tensor], visits: int, title: str) -> None:
    across, up = torch.linspace(-2, 2.4, 200), torch.linspace(-1.6, 2.4, 200)
    values = f(torch.stack(torch.meshgrid(across, up, indexing="xy"), -1))
    axes.contour(
        across,
        up,
        values,
        levels=[f(torch.tensor(START)).item() * s for s in (0.01, 0.05, 0.2, 0.5, 1)],
        colors="0.75",
        linewidths=0.8,
    )
    points = _visits(f, visits)
    axes.plot(*zip(*points, strict=True), "-o", color=COLOURS[0], lw=1.3, ms=3)
    for name, (x, y) in zip("ABCD", points, strict=False):
        axes.annotate(name, (x, y), xytext=(4, 4), textcoords="offset points")
    axes.plot(0, 0, "+", color="black", ms=9)
    axes.set(xlabel="x₁", ylabel="x₂", aspect="equal", title=title)
    axes.grid(False)
    print(f"{title}: after {visits} visits at ({points[-1][0]:.3f}, {points[-1][1]:.3f})")


def _visits(f: Callable[[Tensor], Tensor], visits: int) -> list[tuple[float, float]]:
    """Returns the points after each visit of a coordinate."""
    x = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    points = [START]

    def noting() -> Tensor:
        here = (x[0].item(), x[1].item())
        if here != points[-1]:
            points.append(here)
        return f(x)

    CoordinateDescent([x], coordinates=True).minimize(noting, max_sweeps=visits)
    return points[: visits + 1]


def _failure(axes: Axes) -> None:
    counts = {
        "one coordinate at a time": partial(_sweeps, coordinates=True),
        "gradient descent, best rate": _gradient_steps,
        "L-BFGS": _lbfgs,
        "both as one block": partial(_sweeps, coordinates=False),
    }
    for (name, count), colour in zip(counts.items(), (COLOURS[1], COLOURS[2], COLOURS[3], COLOURS[0]), strict=True):
        needed = [count(alpha) for alpha in ALPHAS]
        axes.plot(ALPHAS, needed, "-o", color=colour, lw=1.3, ms=4, label=name)
        print(f"{name}: {needed}")
    axes.set(xscale="log", yscale="log", xlabel="α", ylabel="sweeps, steps", title="until f is a millionth")
    axes.invert_xaxis()
    axes.legend(fontsize=8)


def _sweeps(alpha: float, coordinates: bool) -> int:
    x = HARD.clone().requires_grad_()
    goal = GOAL * book(x, alpha).item()
    found = CoordinateDescent([x], coordinates=coordinates).minimize(
        lambda: book(x, alpha), tol=0, max_sweeps=MOST, callback=lambda sweep: sweep.value <= goal
    )
    return len(found.sweeps)


def _lbfgs(alpha: float) -> int:
    goal = GOAL * book(HARD, alpha).item()
    return minimize(partial(book, alpha=alpha), HARD, gtol=0, callback=lambda x, value: value <= goal).nit


def _gradient_steps(alpha: float) -> int:
    """Returns the steps at the rate 2 / (λ₁ + λ₂) of the Hessian's eigenvalues 2α and 4 + 2α."""
    x, steps = HARD, 0
    hessian = torch.tensor([[2 + 2 * alpha, -2], [-2, 2 + 2 * alpha]], dtype=torch.float64)
    goal = GOAL * book(x, alpha)
    while book(x, alpha) > goal:
        x, steps = x - hessian @ x / (2 + 2 * alpha), steps + 1
    return steps
