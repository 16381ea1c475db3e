"""A rugged cost smoothed and followed home: from its only minimum when blurred, to the deepest one when not."""

import math

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from thalweg.compare.report.traces import COLOURS
from thalweg.continuation import Adaptive, Continuation, Falling, GaussianSmoothing

DEPTH, WAVES = 4.0, 6.0  # of the bumps: how high, and their angular frequency
SIGMA, LEVELS, STEPS, LR = Falling(1.2, 0.05), 8, 600, 0.02
STARTS = torch.linspace(-4, 4, 81, dtype=torch.float64)


def f(x: Tensor) -> Tensor:
    """Returns x² + DEPTH (1 − cos WAVES x)/2: a bowl under bumps, the deepest minimum at 0."""
    return x**2 + DEPTH * (1 - torch.cos(WAVES * x)) / 2


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Returns E f(x + σε) in closed form: bumps shrink by exp(−σ² WAVES²/2), and the bowl rises by σ²."""
    return x**2 + sigma**2 + DEPTH * (1 - math.exp(-((sigma * WAVES) ** 2) / 2) * torch.cos(WAVES * x)) / 2


class Point(nn.Module):
    """Where the descent stands."""

    def __init__(self, x: float) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor(x, dtype=torch.float64))


def draw() -> Figure:
    """Returns the blurred costs with the way home from one start, and where descents from every start end."""
    figure = Figure(figsize=(9, 3.4))
    left, right = figure.subplots(1, 2, width_ratios=[1.2, 1])
    x = torch.linspace(-4, 4, 800, dtype=torch.float64)
    path = _descend(3.6, smooth=True)
    colours = [str(0.85 - 0.85 * level / LEVELS) for level in range(LEVELS + 1)]
    for level in range(0, LEVELS + 1, 2):
        t = level / LEVELS
        sigma = SIGMA(t) if t < 1 else 0.0
        left.plot(x, blurred(x, sigma), color=colours[level], lw=1, label=f"σ = {sigma:.2g}")
        at = torch.tensor([p for s, p in path if s == t])
        left.plot(at, blurred(at, sigma), ".", color=COLOURS[1], markersize=3)
    plain = torch.tensor([p for _, p in _descend(3.6, smooth=False)])
    left.plot(plain, f(plain), ".", color=COLOURS[0], markersize=3)
    for smooth, colour, name in (
        (False, COLOURS[0], "gradient descent"),
        (True, COLOURS[1], "through the blurred costs"),
    ):
        ends = torch.tensor([_descend(float(start), smooth)[-1][1] for start in STARTS])
        right.plot(STARTS, ends, ".", color=colour, markersize=4, label=name)
        home = (ends.abs() < 0.1).double().mean().item()
        cost = f(ends).mean().item()
        print(
            f"{name}: {home:.0%} of {len(STARTS)} starts end at the deepest minimum; mean cost at the ends {cost:.3g}"
        )
    left.set(xlabel="θ", ylabel="cost and blurred costs", ylim=(-0.5, 20))
    right.set(xlabel="start", ylabel="end")
    left.legend(fontsize=7, loc="upper center")
    right.legend(fontsize=7)
    return figure


def _descend(start: float, smooth: bool) -> list[tuple[float, float]]:
    """Returns t and the point at each step of gradient descent."""
    point, source = Point(start), torch.Generator().manual_seed(0)
    family = GaussianSmoothing(lambda p, _: f(p.x), SIGMA, samples=16, generator=source)
    objective = Continuation(family, Adaptive(LEVELS, window=20, most=STEPS // (LEVELS + 1)))
    found = []
    for step in range(STEPS):
        loss = objective(point, None, step) if smooth else f(point.x)
        (gradient,) = torch.autograd.grad(loss, point.x)
        found.append((objective.t, point.x.item()))
        with torch.no_grad():
            point.x -= LR * gradient
    return found
