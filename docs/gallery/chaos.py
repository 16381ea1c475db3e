"""Chaos: with large weights a small change of the input grows at every layer until nothing is left of the input."""

import torch
from matplotlib.figure import Figure

DEPTH, WIDTH, NUDGE = 40, 400, 1e-4
GAINS = {0.8: ("#0072B2", "o"), 1.0: ("#009E73", "D"), 1.5: ("#E69F00", "s"), 3.0: ("#D55E00", "v")}


def draw() -> Figure:
    """Returns how a small change of the input grows over the layers of tanh networks, and the angle it makes."""
    figure = Figure(figsize=(9, 3.2))
    left, right = figure.subplots(1, 2)
    generator = torch.Generator().manual_seed(0)
    one, step = torch.randn(2, WIDTH, generator=generator, dtype=torch.float64)
    for gain, (colour, marker) in GAINS.items():
        a, b = one, one + NUDGE * one.norm() / step.norm() * step
        first = (a - b).norm()
        grown, cosines = [1.0], [torch.cosine_similarity(a, b, dim=0).item()]
        for layer in range(DEPTH):
            draws = torch.Generator().manual_seed(layer)
            weight = torch.randn(WIDTH, WIDTH, generator=draws, dtype=torch.float64) * gain / WIDTH**0.5
            a, b = torch.tanh(weight @ a), torch.tanh(weight @ b)
            grown.append(((a - b).norm() / first).item())
            cosines.append(torch.cosine_similarity(a, b, dim=0).item())
        for axis, values in ((left, grown), (right, cosines)):
            axis.plot(values, color=colour, marker=marker, markersize=3, label=f"gain {gain:g}")
        print(f"gain {gain:g}: a change of 1e-4 is {grown[-1]:.2g} times as large after {DEPTH} layers, ", end="")
        print(f"cosine {cosines[-1]:.3f}")
    left.set(xlabel="layer", ylabel="growth of a small change", yscale="log")
    right.set(xlabel="layer", ylabel="cosine between the two outputs", ylim=(-0.05, 1.05))
    left.legend(fontsize=7)
    return figure
