"""BFGS learns the inverse Hessian from gradients alone; with exact line searches, in n steps on a quadratic."""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from thalweg.compare.report.traces import COLOURS
from thalweg.linesearch import MoreThuente
from thalweg.second_order import BFGS, FunctionObjective, Limits, Place, descend

N, SHOWN = 10, (1, 4, 7, 10)
# A chain of springs: each number is tied to its two neighbours, and so the inverse ties every one to all.
BESIDE = torch.diag(torch.ones(N - 1, dtype=torch.float64), 1)
HESSIAN = 2 * torch.eye(N, dtype=torch.float64) - BESIDE - BESIDE.T
INVERSE = torch.linalg.inv(HESSIAN)
SEARCHES = {"exact line search": MoreThuente(c1=1e-12, c2=1e-10), "usual, c₂ = 0.9": MoreThuente(c2=0.9)}


def f(theta: Tensor) -> Tensor:
    """Returns ½ θᵀHθ."""
    return 0.5 * theta @ HESSIAN @ theta


def draw() -> Figure:
    """Returns the relative error of M by step, and M beside the inverse Hessian."""
    figure = Figure(figsize=(9, 3.6))
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.3])
    errors = left.subplots()
    places = right.subplots(2, 3).flatten()
    for name, colour, mark in zip(SEARCHES, COLOURS, "os", strict=False):
        estimates = _estimates(SEARCHES[name])
        far = [(torch.linalg.norm(m - INVERSE) / torch.linalg.norm(INVERSE)).item() for m in estimates]
        errors.plot(range(1, len(far) + 1), far, f"-{mark}", color=colour, ms=4, label=name)
        told = ", ".join(f"{far[k - 1]:.2g} after {k}" for k in sorted({*SHOWN, len(far)}))
        print(f"{name}: off by {told} steps")
        if name == "exact line search":
            shown = {f"M, step {k}": estimates[k - 1] for k in SHOWN}
    shown |= {"H⁻¹": INVERSE, "H": HESSIAN}
    for axes, (name, matrix) in zip(places, shown.items(), strict=True):
        image = axes.imshow(matrix, vmin=-3, vmax=3, cmap="PuOr_r")
        axes.set(title=name, xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    right.colorbar(image, ax=list(places), shrink=0.8)
    errors.set(xlabel="step", ylabel="‖M − H⁻¹‖ / ‖H⁻¹‖", yscale="log")
    errors.legend(fontsize=8, loc="center right", bbox_to_anchor=(1, 0.7))
    return figure


def _estimates(search: MoreThuente) -> list[Tensor]:
    """Returns M after each step."""
    start = torch.randn(N, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    direction, found = BFGS(), []
    direction.prepare(start)

    def note(place: Place) -> None:
        assert direction.inverse is not None
        found.append(direction.inverse.clone())

    descend(FunctionObjective(f), start, direction, search, Limits(1e-8), note)
    return found
