"""Steepest descent undoes what it gained; conjugate directions keep it: n steps on a quadratic in n dimensions."""

from collections.abc import Callable

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from thalweg.compare.report.traces import COLOURS
from thalweg.linesearch import MoreThuente
from thalweg.second_order import BETAS, ConjugateGradient, FunctionObjective, Limits, Place, descend

PLANE = torch.tensor([[1.0, 0.8], [0.8, 4.0]], dtype=torch.float64)
PLANE_START = torch.tensor([4.0, 0.6], dtype=torch.float64)
N, VALLEY, MOST = 50, 100, 2500  # dimensions of the quadratic and of the valley, evaluations
CURVATURES = torch.logspace(0, 2, N, dtype=torch.float64)
EXACT, USUAL = MoreThuente(c1=1e-6, c2=1e-5), MoreThuente(c2=0.25)

Trace = list[tuple[int, float, list[float]]]  # evaluations, f, θ


def plane(theta: Tensor) -> Tensor:
    """Returns ½ θᵀHθ for a vector, or for each of ``(..., 2)``."""
    return 0.5 * ((theta @ PLANE) * theta).sum(-1)


def quadratic(theta: Tensor) -> Tensor:
    """Returns ½ Σ λ_i θ_i² with λ from 1 to 100."""
    return 0.5 * (CURVATURES * theta**2).sum()


def rosenbrock(theta: Tensor) -> Tensor:
    """Returns Σ 100 (θ_{i+1} − θ_i²)² + (1 − θ_i)²: a bent valley with its minimum, 0, at θ = 1."""
    return (100 * (theta[1:] - theta[:-1] ** 2) ** 2 + (1 - theta[:-1]) ** 2).sum()


def draw() -> Figure:
    """Returns two paths in the plane, and f by evaluations on a larger quadratic and in a bent valley."""
    figure = Figure(figsize=(11, 3.6))
    left, middle, right = figure.subplots(1, 3)
    _in_the_plane(left)
    _on_the_quadratic(middle)
    _in_the_valley(right)
    return figure


def _in_the_plane(axes: Axes) -> None:
    across, up = torch.linspace(-1.6, 4.6, 200).double(), torch.linspace(-3.6, 2.6, 200).double()
    grid = torch.stack(torch.meshgrid(across, up, indexing="xy"), dim=-1)
    levels = [plane(PLANE_START).item() * share for share in (0.02, 0.1, 0.25, 0.5, 1.0)]
    axes.contour(across, up, plane(grid), levels=levels, colors="0.75", linewidths=0.8)
    for name, direction, style in (("steepest descent", _steepest(), "1-."), ("conjugate", ConjugateGradient(), "0-o")):
        trace = _descent(plane, PLANE_START, direction, EXACT)
        points = [point for *_, point in trace]
        axes.plot(*zip(*points, strict=True), style[1:], color=COLOURS[int(style[0])], lw=1.5, ms=5, label=name)
        print(f"in the plane, {name}: {len(trace) - 1} steps")
    axes.plot(0, 0, "+", color="black", ms=9)
    axes.set(xlabel="θ₁", ylabel="θ₂", aspect="equal", title="two dimensions")
    axes.grid(False)
    axes.legend(fontsize=8, loc="lower right")


def _on_the_quadratic(axes: Axes) -> None:
    start = torch.randn(N, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for name, make, colour in (("steepest", _steepest, COLOURS[1]), ("conjugate", ConjugateGradient, COLOURS[0])):
        for search, what, style in ((EXACT, "exact", "-"), (USUAL, "c₂ = 0.25", "--")):
            trace = _descent(quadratic, start, make(), search)
            _plot(axes, trace, style, colour, f"{name}, {what}")
            print(f"{N} dimensions, {name}, {what}: {len(trace) - 1} steps, {trace[-1][0]} evaluations")
    axes.set(xlabel="evaluations", ylabel="f", yscale="log", title=f"a quadratic in {N} dimensions", xlim=(0, 1500))
    axes.legend(fontsize=8)


def _in_the_valley(axes: Axes) -> None:
    start = torch.tensor([-1.2, 1.0], dtype=torch.float64).repeat(VALLEY // 2)
    trace = _descent(rosenbrock, start, _steepest(), USUAL)
    _plot(axes, trace, "-", "0.5", "steepest descent")
    print(f"valley, steepest descent: f = {trace[-1][1]:.1f} after {trace[-1][0]} evaluations")
    for beta, colour in zip(BETAS, COLOURS, strict=False):
        trace = _descent(rosenbrock, start, ConjugateGradient(beta), USUAL)
        _plot(axes, trace, "--" if beta == "polak_ribiere_plus" else "-", colour, beta)
        print(f"valley, {beta}: f = {trace[-1][1]:.0e} after {trace[-1][0]} evaluations")
    axes.set(xlabel="evaluations", ylabel="f", yscale="log", title=f"Rosenbrock's valley in {VALLEY} dimensions")
    axes.legend(fontsize=7, loc="lower left")


def _plot(axes: Axes, trace: Trace, style: str, colour: str, label: str) -> None:
    axes.plot([e for e, *_ in trace], [value for _, value, _ in trace], style, color=colour, lw=1.3, label=label)


def _steepest() -> ConjugateGradient:
    return ConjugateGradient(every=1)  # conjugate directions that begin anew at each step


def _descent(f: Callable[[Tensor], Tensor], x: Tensor, direction: ConjugateGradient, search: MoreThuente) -> Trace:
    objective = FunctionObjective(f)
    trace: Trace = [(1, f(x).item(), x.tolist())]

    def note(place: Place) -> None:
        trace.append((objective.evaluations, place.value, place.x.tolist()))

    direction.prepare(x)
    descend(objective, x, direction, search, Limits(1e-8, None, MOST), note)
    return trace
