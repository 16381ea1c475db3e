"""The data-driven rescue: thirty sigmoid layers that do not train do so once a minibatch has scaled them."""

from itertools import pairwise

import torch
from matplotlib.figure import Figure
from torch import nn

from benchmarks.pairs import mean_interval
from thalweg.compare.task import materialize
from thalweg.compare.task.loading import load_task
from thalweg.initialization import initialize, scale_by_data

DEPTH, WIDTH, STEPS, SEEDS = 30, 48, 300, 5
WAYS = {
    "uniform 1/√m": ("#D55E00", "s"),
    "… scaled by a minibatch": ("#0072B2", "o"),
    "Glorot, gain 4": ("#009E73", "D"),
}


def draw() -> Figure:
    """Returns the accuracy on digits of five seeds, and each layer's deviation before and after the rescue."""
    figure = Figure(figsize=(9, 3.2))
    left, right = figure.subplots(1, 2)
    data = materialize(load_task("digits"))
    for way, (colour, marker) in WAYS.items():
        curves, ends = [], []
        for seed in range(SEEDS):
            model, deviations = _start(way, seed, data.train.input)
            curve = _train(model, data.train.input, data.train.target, seed)
            curves.append(curve)
            with torch.no_grad():
                ends.append((model(data.test.input).argmax(dim=1) == data.test.target).double().mean().item())
            if seed == 0:
                right.plot(range(1, DEPTH + 2), deviations, color=colour, marker=marker, markersize=3, label=way)
        for i, curve in enumerate(curves):
            left.plot(range(0, STEPS, 10), curve, color=colour, lw=1, alpha=0.8, label=way if i == 0 else None)
        found = mean_interval(ends, (0.0, 1.0))
        print(
            f"{way}: test accuracy {found.mean:.3f}, 95 % interval {found.low:.3f} to {found.high:.3f}, {SEEDS} seeds"
        )
    _rectifiers(data.train.input, data.train.target, data.test.input, data.test.target)
    left.set(xlabel="step of Adam", ylabel="cross-entropy on the minibatch", yscale="log")
    right.set(xlabel="layer", ylabel="deviation of a unit between examples", yscale="log")
    right.legend(fontsize=7)
    return figure


def _rectifiers(x: torch.Tensor, y: torch.Tensor, test_x: torch.Tensor, test_y: torch.Tensor) -> None:
    """Prints the same for fifty layers of rectifiers, where the right gain is enough."""
    for scheme in ("uniform-fan-in", "he"):
        ends = []
        for seed in range(SEEDS):
            layers = [m for i in range(50) for m in (nn.Linear(WIDTH if i else 64, WIDTH), nn.ReLU())]
            model = nn.Sequential(*layers, nn.Linear(WIDTH, 10))
            gain = "nonlinearity" if scheme == "he" else None
            initialize(model, scheme, torch.Generator().manual_seed(seed), gain=gain)
            _train(model, x, y, seed, lr=5e-4)
            with torch.no_grad():
                ends.append((model(test_x).argmax(dim=1) == test_y).double().mean().item())
        found = mean_interval(ends, (0.0, 1.0))
        print(f"50 rectifier layers, {scheme}: {found.mean:.3f}, 95 % interval {found.low:.3f} to {found.high:.3f}")


def _start(way: str, seed: int, x: torch.Tensor) -> tuple[nn.Sequential, list[float]]:
    sizes = [64, *[WIDTH] * DEPTH]
    layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.Sigmoid())]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, 10))
    draws = torch.Generator().manual_seed(seed)
    if "Glorot" in way:
        initialize(model, "glorot-normal", draws, gain="nonlinearity")
    else:
        initialize(model, "uniform-fan-in", draws)
    if "scaled" in way:
        scale_by_data(model, x[:256], center=True)
    deviations = []
    with torch.no_grad():
        for module in model:
            x = module(x)
            if isinstance(module, nn.Linear):
                deviations.append(x.var(dim=0).mean().sqrt().item())
    return model, deviations


def _train(model: nn.Module, x: torch.Tensor, y: torch.Tensor, seed: int, lr: float = 2e-3) -> list[float]:
    optimizer, draws = torch.optim.Adam(model.parameters(), lr=lr), torch.Generator().manual_seed(seed)
    losses = []
    for step in range(STEPS):
        rows = torch.randint(len(x), (128,), generator=draws)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            losses.append(loss.item())
    return losses
