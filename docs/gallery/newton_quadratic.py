"""On a quadratic Newton's first step ends at the minimum, however badly it is conditioned; steepest descent zigzags."""

import math

import torch
from matplotlib.figure import Figure
from torch import Tensor

from thalweg import optim
from thalweg.compare.report.traces import COLOURS
from thalweg.linesearch import MoreThuente
from thalweg.second_order import ConjugateGradient, FunctionObjective, Limits, Place, descend, newton

CONDITION, ANGLE = 25.0, math.radians(20)
PRODUCT = 2  # what a Hessian product costs, in evaluations of value and gradient
CLOSE = 1e-8  # of the first f
TURN = torch.tensor([[math.cos(ANGLE), -math.sin(ANGLE)], [math.sin(ANGLE), math.cos(ANGLE)]], dtype=torch.float64)
HESSIAN = TURN @ torch.diag(torch.tensor([1.0, CONDITION], dtype=torch.float64)) @ TURN.T
# The worst start for an exact line search: its steps are then those of the best fixed rate.
START = TURN @ torch.tensor([CONDITION, 1.0], dtype=torch.float64) / 5

Trace = list[tuple[int, float, list[float]]]  # evaluations, f, θ


def f(theta: Tensor) -> Tensor:
    """Returns ½ θᵀHθ for a vector, or for each of ``(..., 2)``."""
    return 0.5 * ((theta @ HESSIAN) * theta).sum(-1)


def draw() -> Figure:
    """Returns two paths over the contours, and f against evaluations."""
    traces = {
        "steepest descent, line search": _steepest_descent(),
        "steepest descent, best fixed rate": _fixed_rate(),
        "Newton": _newton(),
    }
    figure = Figure(figsize=(9, 3.4))
    left, right = figure.subplots(1, 2, width_ratios=[1.4, 1])
    across, up = torch.linspace(-1.5, 5.2, 200).double(), torch.linspace(-1.2, 2.8, 200).double()
    grid = torch.stack(torch.meshgrid(across, up, indexing="xy"), dim=-1)
    levels = [f(START).item() * share for share in (0.01, 0.05, 0.15, 0.35, 0.65, 1.0)]
    left.contour(across, up, f(grid), levels=levels, colors="0.75", linewidths=0.8)
    for (name, trace), place, style in zip(traces.items(), (1, 4, 0), ("-", "--", "-o"), strict=True):
        colour = COLOURS[place]
        evaluations, values, points = zip(*trace, strict=True)
        if name != "steepest descent, best fixed rate":  # the same path
            left.plot(*zip(*points, strict=True), style, color=colour, lw=1.5, ms=5, label=name.split(",")[0])
        floored = [max(value, 1e-20) for value in values]  # Newton comes to 0 but for rounding
        right.plot(evaluations, floored, style, color=colour, lw=1.5, ms=5, label=name)
        steps = next(i for i, value in enumerate(values) if value <= CLOSE * values[0])
        print(f"{name}: {CLOSE:.0e} of the first f at step {steps}, evaluation {evaluations[steps]}")
    left.plot(0, 0, "+", color="black", ms=9)
    left.set(xlabel="θ₁", ylabel="θ₂", aspect="equal")
    left.grid(False)
    right.set(xlabel=f"evaluations (a Hessian product counts {PRODUCT})", ylabel="f", yscale="log", xlim=(0, 250))
    right.set_ylim(bottom=1e-22)
    left.legend(loc="upper left")
    right.legend(fontsize=8, loc="lower right")
    return figure


def _fixed_rate() -> Trace:
    theta = START.clone().requires_grad_()
    optimizer = optim.SGD([theta], lr=2 / (1 + CONDITION))  # shrinks the flattest and the steepest way alike
    objective = FunctionObjective(f)
    trace: Trace = []
    for _ in range(300):
        found = objective.evaluate(theta)
        trace.append((objective.evaluations, found.value.item(), theta.tolist()))
        theta.grad = found.gradient
        optimizer.step()
    return trace


def _steepest_descent() -> Trace:
    objective = FunctionObjective(f)
    trace: Trace = [(1, f(START).item(), START.tolist())]

    def note(place: Place) -> None:
        trace.append((objective.evaluations, place.value, place.x.tolist()))

    direction = ConjugateGradient(every=1)  # conjugate gradients that begin anew at each step: steepest descent
    direction.prepare(START)
    descend(objective, START, direction, MoreThuente(c2=1e-3), Limits(1e-8), note)
    return trace


def _newton() -> Trace:
    objective = FunctionObjective(f)
    trace: Trace = [(1, f(START).item(), START.tolist())]

    def note(place: Place) -> None:
        trace.append((objective.evaluations + PRODUCT * objective.products, place.value, place.x.tolist()))

    newton(objective, START, Limits(1e-8), note, damping="fixed", alpha=0.0)
    return trace
