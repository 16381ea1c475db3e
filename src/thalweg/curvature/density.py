"""The whole spectrum as a density: how much of a model's curvature is negative, near zero, or far out."""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from thalweg.curvature.lanczos import gaussian, lanczos
from thalweg.curvature.operator import LinearOperator


class Density(NamedTuple):
    """The spectrum as a smooth density that integrates to 1; all float64 on the CPU.

    Attributes:
        grid, density: points ``(g,)`` and the density there ``(g,)``.
        nodes, weights: of the quadrature ``(k,)``: tr f(A) / n ≈ Σ weights · f(nodes); the weights sum to 1.
        width: σ, the standard deviation of the Gaussian put around each node.
    """

    grid: Tensor
    density: Tensor
    nodes: Tensor
    weights: Tensor
    width: float


def spectral_density(
    operator: LinearOperator,
    generator: Generator,
    *,
    probes: int = 10,
    steps: int = 50,
    width: float | None = None,
    grid: Tensor | None = None,
) -> Density:
    """Returns the density of a symmetric matrix's eigenvalues, by stochastic Lanczos quadrature.

        φ(t) = 1/probes Σ_l Σ_i ω_i^l N(t; θ_i^l, σ²),   ω_i = (first entry of T's i-th eigenvector)²

    For each probe Σ ω θᵏ = vᵀAᵏv up to k = 2·steps − 1, and E vᵀAᵏv = tr Aᵏ / n.

    Arguments:
        operator: A ``(n, n)``.
        generator: of the probes, drawn on the CPU from the unit sphere.
        probes: how many; 10 by default.
        steps: Lanczos steps for each; 50 by default, at most n.
        width: σ; by default a hundredth of the spectrum's breadth.
        grid: points t ``(g,)``; by default a fifth of σ apart, six σ past the ends.

    Raises:
        ValueError: probes or steps < 1, or the width is not positive.

    >>> from thalweg.curvature import Hessian
    >>> a = Hessian.of(lambda x: (x**2 * torch.tensor([0.5, 1.0, 1.5])).sum(), torch.zeros(3))
    >>> found = spectral_density(a, torch.Generator().manual_seed(0))
    >>> round(float(torch.trapezoid(found.density, found.grid)), 4)
    1.0

    Source: Lin, Saad & Yang 2016; Ghorbani, Krishnan & Xiao 2019.
    """
    if probes < 1:
        raise ValueError(f"probes must be at least 1, not {probes}")
    if width is not None and not width > 0:
        raise ValueError(f"the width must be positive, not {width}")
    pairs = [lanczos(operator, gaussian(operator, generator), steps).eigh() for _ in range(probes)]
    nodes = torch.cat([values for values, _ in pairs])
    weights = torch.cat([vectors[0] ** 2 for _, vectors in pairs]) / probes
    low, high = float(nodes.min()), float(nodes.max())
    # Where all nodes are one, what tells them apart is rounding: no breadth to go by.
    sigma = width or 0.01 * (max(high - low, 1e-4 * max(abs(low), abs(high))) or 1.0)
    if grid is None:
        points = math.ceil((high - low + 12 * sigma) / (sigma / 5)) + 1
        grid = torch.linspace(low - 6 * sigma, high + 6 * sigma, points, dtype=torch.float64)
    grid = grid.to("cpu", torch.float64)
    density = torch.zeros_like(grid)
    for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        density += weight * torch.exp(-0.5 * ((grid - node) / sigma) ** 2)
    return Density(grid, density / (sigma * math.sqrt(2 * math.pi)), nodes, weights, sigma)
