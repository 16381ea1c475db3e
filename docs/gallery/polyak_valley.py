"""Polyak averaging: the iterates leap from side to side of a valley, and their average lies on its floor."""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from thalweg import optim
from thalweg.averaging import EMA, Average, Polyak
from thalweg.compare.report.traces import COLOURS

CURVATURES = torch.tensor([1.0, 50.0], dtype=torch.float64)  # along the valley, across it
START = [-5.0, 0.8]
LR = 0.039  # across, each step turns the sign and leaves 0.95; along, 0.96
NOISE, STEPS, RUNS = 1.5, 1000, 30
SHOWN = 150  # steps of the path
KINDS = {
    "average from the start": Polyak(),
    "average of the second half": Polyak().tail(0.5, STEPS),
    "exponential, 100 steps": EMA.over(100),
}


def f(theta: Tensor) -> Tensor:
    """Returns ½ Σ cᵢ θᵢ² of points ``(..., 2)``."""
    return 0.5 * (CURVATURES * theta**2).sum(-1)


def draw() -> Figure:
    """Returns the first steps of one run with its averages over the contours, and f against steps over all runs."""
    runs = [_run(seed) for seed in range(RUNS)]
    figure = Figure(figsize=(9, 3.4))
    left, right = figure.subplots(1, 2, width_ratios=[1.2, 1])
    along, across = torch.linspace(-5.5, 1.5, 200).double(), torch.linspace(-1, 1, 200).double()
    grid = torch.stack(torch.meshgrid(along, across, indexing="xy"), dim=-1)
    left.contour(along, across, f(grid), levels=[0.5, 2, 5, 10, 17, 26], colors="0.75", linewidths=0.8)
    crossed = (runs[0]["iterates"][1:, 1] * runs[0]["iterates"][:-1, 1] < 0).double().mean().item()
    print(f"{crossed:.0%} of the steps cross the floor; f at step {STEPS}, mean of {RUNS} runs:")
    for name, colour, width in zip(runs[0], ("0.6", *COLOURS[:3]), (0.6, 2.0, 1.4, 1.2), strict=True):
        start = KINDS[name].start if name in KINDS else 0
        if start < SHOWN:
            left.plot(*runs[0][name][start:SHOWN].T, color=colour, lw=width, label=name)
        costs = torch.stack([f(run[name]) for run in runs]).mean(0)
        right.plot(range(start + 1, STEPS + 1), costs[start:], color=colour, lw=width, label=name)
        print(f"  {name} {costs[-1].item():.4f}")
    left.plot(0, 0, "+", color="black", ms=9)
    left.set(xlabel="θ₁, along the valley", ylabel="θ₂, across it", ylim=(-1, 1))
    left.grid(False)
    right.set(xlabel="step", ylabel=f"f, mean of {RUNS} runs", xscale="log", yscale="log")
    left.legend(fontsize=8, loc="lower right")
    right.legend(fontsize=8, loc="lower left")
    return figure


def _run(seed: int) -> dict[str, Tensor]:
    """Returns the iterates ``(STEPS, 2)`` of gradient descent on noisy gradients, and their averages at each step."""
    draws = torch.Generator().manual_seed(seed)
    theta = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = optim.SGD([theta], lr=LR)
    averages = {name: Average([theta], kind) for name, kind in KINDS.items()}
    for average in averages.values():
        average.follow(optimizer)
    paths: dict[str, list[Tensor]] = {name: [] for name in ("iterates", *KINDS)}
    for _ in range(STEPS):
        noise = NOISE * torch.randn(2, generator=draws, dtype=torch.float64)
        theta.grad = CURVATURES * theta.detach() + noise
        optimizer.step()
        paths["iterates"].append(theta.detach().clone())
        for name, average in averages.items():
            paths[name].append(average.means["0"].clone())
    return {name: torch.stack(path) for name, path in paths.items()}
