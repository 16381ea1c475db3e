"""How large signals are over twenty layers, by the scheme of the weights and the nonlinearity."""

import torch
from matplotlib.figure import Figure
from torch import nn

from thalweg.initialization import initialize

DEPTH, WIDTH, EXAMPLES = 20, 200, 256
UNITS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "rectifier": nn.ReLU}
SCHEMES = {
    "uniform-fan-in": ("#0072B2", "-", "o"),
    "glorot-uniform": ("#D55E00", "-", "s"),
    "he": ("#009E73", "-", "D"),
    "orthogonal": ("#CC79A7", "--", "^"),
    "too-large": ("#E69F00", "-", "v"),
}


def draw() -> Figure:
    """Returns the deviation between examples of each layer's output."""
    figure = Figure(figsize=(9, 3.3))
    axes = figure.subplots(1, 3, sharey=True)
    x = torch.randn(EXAMPLES, WIDTH, generator=torch.Generator().manual_seed(1))
    for axis, (unit, activation) in zip(axes, UNITS.items(), strict=True):
        for scheme, (colour, style, marker) in SCHEMES.items():
            deviations = _deviations(activation, scheme, x)
            axis.plot(
                range(1, DEPTH + 1), deviations, style, color=colour, marker=marker, markersize=3, label=scheme, lw=1.2
            )
            print(f"{unit}, {scheme}: {deviations[0]:.2g} in layer 1, {deviations[-1]:.2g} in layer {DEPTH}")
        axis.set(yscale="log", xlabel="layer", title=unit, ylim=(1e-9, 1e4))
    axes[0].set(ylabel="deviation of a unit between examples")
    axes[0].legend(fontsize=7, loc="lower left")
    return figure


def _deviations(activation: type[nn.Module], scheme: str, x: torch.Tensor) -> list[float]:
    model = nn.Sequential(*(m for _ in range(DEPTH) for m in (nn.Linear(WIDTH, WIDTH), activation())))
    gain = "nonlinearity" if scheme in ("glorot-uniform", "he", "orthogonal") else None
    initialize(model, scheme, torch.Generator().manual_seed(0), gain=gain)
    found = []
    with torch.no_grad():
        for module in model:
            x = module(x)
            if isinstance(module, nn.Linear):
                found.append(x.var(dim=0).mean().sqrt().item())
    return found
