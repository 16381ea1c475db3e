"""What symmetry does: units that start alike stay alike, and the network is as good as one unit wide."""

import torch
from matplotlib.figure import Figure
from torch import nn

from thalweg.compare.task import materialize
from thalweg.compare.task.loading import load_task
from thalweg.initialization import initialize

STEPS, UNITS = 400, 32
WAYS = {"constant": ("#D55E00", "s"), "glorot-uniform": ("#0072B2", "o")}


def draw() -> Figure:
    """Returns the training loss on digits, and how far apart the hidden units are."""
    figure = Figure(figsize=(9, 3.2))
    left, right = figure.subplots(1, 2)
    for scheme, (colour, marker) in WAYS.items():
        losses, spreads = _train(scheme)
        every = range(0, STEPS + 1, 20)
        left.plot(every, losses[::20], color=colour, marker=marker, markersize=3, label=scheme)
        right.plot(every, spreads[::20], color=colour, marker=marker, markersize=3, label=scheme)
        print(f"{scheme}: loss {losses[-1]:.3f} after {STEPS} steps, units {spreads[-1]:.2g} apart")
    left.set(xlabel="step of Adam, full batch", ylabel="cross-entropy on digits", yscale="log")
    right.set(xlabel="step of Adam, full batch", ylabel="deviation between hidden units' weights", ylim=(-0.01, None))
    left.legend()
    return figure


def _train(scheme: str) -> tuple[list[float], list[float]]:
    data = materialize(load_task("digits"))
    model = nn.Sequential(nn.Linear(64, UNITS), nn.Tanh(), nn.Linear(UNITS, 10))
    gain = None if scheme == "constant" else "nonlinearity"
    initialize(model, scheme, torch.Generator().manual_seed(0), gain=gain)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses, spreads = [], []
    for _ in range(STEPS + 1):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(data.train.input), data.train.target)
        loss.backward()
        losses.append(loss.item())
        spreads.append(model[0].weight.detach().std(dim=0).mean().item())
        optimizer.step()
    return losses, spreads
