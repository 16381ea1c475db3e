"""The lasso of many samples as tensors, on any device: block coordinate descent for all at once, and exact ends.

sweep    for each block of atoms   q = b − G c                 one matrix product for all atoms outside of the block
         for each atom j in it     c_j ← S(q_j + G_jj c_j, α) / G_jj, S the soft threshold, and q follows in the block
settle   on each sample's support, with its signs   G_SS c_S = b_S − α s   by a batched Cholesky factorization;
         the solution, without what changed sign, or the way there up to the first change, whichever costs less;
         again, a few times, where the support lost atoms by it

A round is some sweeps, which find the support, and one settling, which ends what the sweeps would take hundreds for.
Samples whose gap is small drop out of the next round.

Source: Deep Learning, §8.7.2; Friedman, Hastie & Tibshirani 2010 (sweeps with the Gram matrix).
"""

import torch
from torch import Tensor

from thalweg.coordinate.duality import gap_from

_BLOCK = 16  # atoms; their rows stay in the cache
_SWEEPS = 8  # before the first settling and between two
_ELEMENTS = 1 << 22  # of the matrices factorized at once
_CUTS = 3  # settlings in a row where atoms are lost
_RIDGE = 1e-8  # of the mean square of atoms, for dependent ones


def solve(
    samples: Tensor,
    dictionary: Tensor,
    gram: Tensor,
    alpha: float,
    positive: bool,
    tol: float,
    max_iter: int,
    codes: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Does the same as :func:`thalweg.coordinate.pivoting.solve`, on any device; counts sweeps instead of pivots."""
    rows = samples.double()
    b, x = rows @ dictionary.T, 0.5 * (rows * rows).sum(1)
    c, count = codes.to(b, copy=True), 0
    costs, gaps = torch.empty_like(x), torch.empty_like(x)
    sweeps = torch.empty_like(x, dtype=torch.int64)
    going = torch.arange(len(x), device=x.device)
    while True:
        cost, gap = gap_from(c, b, b - c @ gram, x, alpha, positive)
        codes[going], costs[going], gaps[going], sweeps[going] = c.to(codes.dtype), cost, gap, count
        left = gap > tol
        if count >= max_iter or not bool(left.any()):
            return costs, gaps, sweeps
        going, b, x, c = going[left], b[left], x[left], c[left]
        times = min(_SWEEPS, max_iter - count)
        lanes = c.T.contiguous()
        for _ in range(times):
            sweep(gram, b.T, lanes, alpha, positive)
        count += times
        c = settle(gram, b, lanes.T.contiguous(), alpha)


def sweep(gram: Tensor, corr: Tensor, codes: Tensor, alpha: float, positive: bool) -> None:
    """Minimises over each atom's coefficient in turn, for all samples, in place; samples lie along the last axis.

    Arguments:
        gram: ``(K, K)``.
        corr: ``(K, n)``.
        codes: ``(K, n)``, changed.
        alpha: threshold.
        positive: whether codes are to be ≥ 0.
    """
    diagonal: list[float] = gram.diagonal().tolist()
    for start in range(0, len(gram), _BLOCK):
        block = slice(start, start + _BLOCK)
        q, within = torch.addmm(corr[block], gram[block], codes, alpha=-1), gram[block, block]
        for i, size in enumerate(diagonal[block]):
            if size <= 0:
                continue  # an atom of zeros
            c = codes[start + i]
            best = torch.add(q[i], c, alpha=size)
            best = (best - alpha).clamp_(min=0) if positive else torch.nn.functional.softshrink(best, alpha)
            best.div_(size)
            q.addr_(within[:, i], best - c, alpha=-1)
            c.copy_(best)


def settle(gram: Tensor, corr: Tensor, codes: Tensor, alpha: float) -> Tensor:
    """Returns the codes at the minimum on their support, without what changed sign; none has a higher cost.

    Arguments:
        gram: ``(K, K)``.
        corr, codes: ``(n, K)``.
        alpha: weight of the ℓ1 norm.
    """
    codes, rows = codes.clone(), torch.arange(len(codes), device=codes.device)
    for _ in range(_CUTS):
        sizes, cut = (codes[rows] != 0).sum(1), torch.zeros(len(rows), dtype=torch.bool, device=codes.device)
        order, sizes = rows[sizes.argsort()], sizes.sort().values
        start = 0
        while start < len(order):  # as many of like size as fit
            ahead = min(len(order), start + max(1, _ELEMENTS // len(gram) ** 2)) - 1
            most = max(1, int(sizes[ahead]))
            stop = min(ahead + 1 if most > 1 else len(order), start + max(1, _ELEMENTS // most**2))
            some = order[start:stop]
            codes[some], cut[start:stop] = _settle(gram, corr[some], codes[some], alpha, most)
            start = stop
        rows = order[cut]
    return codes


def _settle(gram: Tensor, corr: Tensor, codes: Tensor, alpha: float, most: int) -> tuple[Tensor, Tensor]:
    """Moves each code once; says which lost atoms by it, so that there is further to go."""
    support = (codes != 0).byte().argsort(dim=1, descending=True, stable=True)[:, :most]
    c, b = codes.gather(1, support), corr.gather(1, support)
    real = c != 0
    inside = gram[support[:, :, None], support[:, None, :]] * (real[:, :, None] & real[:, None, :])
    inside.diagonal(dim1=1, dim2=2).add_((~real).to(inside.dtype))
    factor, failed = torch.linalg.cholesky_ex(inside)
    if bool(failed.any()):  # dependent atoms: along what they share the cost is linear, and the way long
        ridge = _RIDGE * inside[failed > 0].diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        eye = torch.eye(most, dtype=inside.dtype, device=inside.device)
        factor[failed > 0], failed[failed > 0] = torch.linalg.cholesky_ex(inside[failed > 0] + ridge * eye)
    goal = torch.cholesky_solve(torch.where(real, b - alpha * c.sign(), 0.0)[..., None], factor)[..., 0]
    goal = torch.where((failed == 0)[:, None] & goal.isfinite(), goal, c)
    crosses = c * goal < 0
    share = torch.where(crosses, c / (c - goal), 1.0)
    first = share.amin(1, keepdim=True)
    ways = [
        torch.where(crosses & (share <= first), 0.0, c + first * (goal - c)),
        torch.where(crosses, 0.0, goal),
    ]

    def cost(c: Tensor) -> Tensor:
        return (0.5 * c * (inside @ c[..., None])[..., 0] - c * b + alpha * c.abs()).sum(1)

    best, least = c, cost(c)
    for way in ways:
        value = cost(way)
        lower = value < least
        best, least = torch.where(lower[:, None], way, best), torch.where(lower, value, least)
    return codes.scatter(1, support, best), ((best == 0) & real).any(1)
