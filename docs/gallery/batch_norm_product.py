"""Why normalize: in a product of layers a gradient step is not what the gradient promises; normalized, it is."""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from thalweg.normalization import add_batch_norm

ASKED, DEPTHS = 0.1, range(2, 31)
WEIGHTS = {0.7: ("#D55E00", "s"), 0.8: ("#E69F00", "^"), 1.0: ("#0072B2", "o"), 1.2: ("#009E73", "D")}


def draw() -> Figure:
    """Returns how far steps miss the decrease that was asked for, by depth, and the terms that make them miss."""
    figure = Figure(figsize=(9, 3.3))
    left, right = figure.subplots(1, 2)
    for w, (colour, marker) in WEIGHTS.items():
        missed = [abs(_achieved(depth, w) - ASKED) / ASKED for depth in DEPTHS]
        normalized = [abs(_achieved(depth, w, normalize=True) - ASKED) / ASKED for depth in DEPTHS]
        style = {"color": colour, "marker": marker, "markersize": 3, "lw": 1.2}
        left.plot(DEPTHS, missed, label=f"weights {w}", **style)
        left.plot(DEPTHS, normalized, "--", **style)
        terms = _terms(20, w)
        right.plot(range(1, 21), np.abs(terms), label=f"weights {w}", **style)
        at = ", ".join(f"{missed[depth - 2]:.2g} at depth {depth}" for depth in (2, 5, 10, 20, 30))
        print(f"weights {w}: off by {at}; normalized at most {max(normalized):.1g}")
        print(f"  depth 20, terms of orders 1, 2, 3 and 10: {', '.join(f'{terms[k - 1]:.2g}' for k in (1, 2, 3, 10))}")
    left.set(xlabel="layers", ylabel="|decrease − asked| / asked", yscale="log", ylim=(1e-13, 1e7))
    left.annotate("normalized (dashed)", (30, 1e-8), ha="right", fontsize=7)
    right.set(
        xlabel="order in ε, twenty layers",
        ylabel="size of the term in ŷ",
        yscale="log",
        ylim=(1e-12, 1e13),
        xticks=range(0, 21, 5),
    )
    left.legend(fontsize=7)
    return figure


def _achieved(depth: int, w: float, normalize: bool = False) -> float:
    """Returns by how much the slope of ŷ = x w₁ … w_l fell in a gradient step that should have taken ASKED off it."""
    chain = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(depth))).double()
    for p in chain.parameters():
        nn.init.constant_(p, w)
    if normalize:
        add_batch_norm(chain, affine=False)
    x = torch.randn(64, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = (x - x.mean()) / x.std(correction=0)

    def slope() -> Tensor:
        return (x * chain(x)).mean()

    before = slope()
    g = torch.autograd.grad(before, list(chain.parameters()))
    rate = ASKED / sum(float(d.square()) for d in g)  # to first order the slope falls by ε gᵀg
    with torch.no_grad():
        for p, d in zip(chain.parameters(), g, strict=True):
            p -= rate * d
        return float(before - slope())


def _terms(depth: int, w: float) -> np.ndarray:
    """Returns the terms of orders 1 to depth in ε of (w₁ − εg₁) … (w_l − εg_l)."""
    g = w ** (depth - 1)
    rate = ASKED / (depth * g**2)
    return np.poly(np.full(depth, rate * g / w))[1:] * w**depth
