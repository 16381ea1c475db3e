"""Sparse codes: the lasso of many samples on one dictionary, each solved to a duality gap."""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from thalweg.coordinate import sweeps
from thalweg.tensors.form import require
from thalweg.tensors.ranges import is_whole

_ALMOST_NONE = 1e-10  # α in the stead of 0, as a share of the one that makes all codes zero
_FEW = 1 << 18  # numbers that one thread is done with before others are awake


@contextmanager
def one_thread(size: int) -> Iterator[None]:
    """Runs its body, of so many numbers, on one of torch's threads if that is few: others would wait for each other."""
    before = torch.get_num_threads()
    if size <= _FEW:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Codes:
    """Sparse codes and how sure they are.

    Attributes:
        codes: ``(n, K)`` in float64 for samples in float64, else in float32.
        cost: ½‖x − cD‖² + α‖c‖₁ + ½ l2‖c‖² of each sample ``(n,)``, float64.
        gap: relative duality gap of each sample ``(n,)``, float64: its cost is above the least by this share at most.
        n_iter: pivots, or sweeps, that each took ``(n,)``.
    """

    codes: Tensor
    cost: Tensor
    gap: Tensor
    n_iter: Tensor


@torch.no_grad()
def lasso(
    samples: Tensor,
    dictionary: Tensor,
    alpha: float,
    *,
    l2: float = 0.0,
    positive: bool = False,
    start: Tensor | None = None,
    tol: float = 1e-6,
    max_iter: int = 10_000,
    batch_size: int = 16_384,
    gram: Tensor | None = None,
    progress: Callable[[int, float], Any] | None = None,
) -> Codes:
    """Minimises  ½‖x − cD‖² + α‖c‖₁ + ½ l2‖c‖²  over the code c of every sample x.

    The book writes Σ|H_ij| + Σ(X − HW)²_ij: the same with H = c, W = D and α = ½. scikit-learn's ``sparse_encode``
    has this form and this α; its ``Lasso`` divides the square by d, so that its α is this one divided by d.

    On the CPU with numba (``pip install thalweg[fast]``) each sample pivots on its support, on all of torch's
    threads (:mod:`thalweg.coordinate.pivoting`); else all samples are swept at once as tensors, on any device
    (:mod:`thalweg.coordinate.sweeps`). Both are exact and count in float64.

    Arguments:
        samples: x ``(n, d)``.
        dictionary: D ``(K, d)``, one atom a row, of any norms.
        alpha: α ≥ 0, in the samples' units times the atoms'. 0 is read as the limit: least squares, of least ℓ1 norm.
        l2: ≥ 0, the elastic net's square.
        positive: whether codes are to be ≥ 0.
        start: codes to begin from ``(n, K)``; zeros by default.
        tol: relative duality gap at which a sample is done.
        max_iter: pivots, or sweeps, a sample at most.
        batch_size: samples worked on at once: beside the arguments and what is returned, memory is bounded by it.
        gram: D Dᵀ ``(K, K)``, if there is one.
        progress: called with the number of samples done and the largest gap among the last.

    Returns:
        :class:`Codes`. A sample that did not reach ``tol`` is warned of; codes all zero are said to be so.

    Raises:
        ValueError: shapes that do not fit, values that are not finite or not real, settings out of their range.

    >>> lasso(torch.tensor([[3.0, 0.5]]), torch.eye(2), 1.0).codes.tolist()
    [[2.0, 0.0]]

    Source: Deep Learning, §8.7.2; Tibshirani 1996; Zou & Hastie 2005.
    """
    try:
        alpha, l2 = float(alpha), float(l2)
    except (TypeError, ValueError):
        raise ValueError(f"alpha={alpha!r}, l2={l2!r}: pass numbers >= 0") from None
    with one_thread(samples.numel()):
        _check(samples, dictionary, alpha, l2, start, batch_size, tol, max_iter, gram)
    kind = samples.dtype if samples.dtype in (torch.float32, torch.float64) else torch.float32
    d = dictionary.detach().to(samples.device, torch.float64)
    g = d @ d.T if gram is None else gram.detach().to(d)
    if l2:
        g = g + l2 * torch.eye(len(g), dtype=g.dtype, device=g.device)
    codes = torch.zeros(len(samples), len(d), dtype=kind, device=d.device)  # the start, in place of which the end comes
    if start is not None:
        codes.copy_(start.detach())
        if positive:
            codes.clamp_(min=0)
    cost, gap = (torch.empty(len(samples), dtype=torch.float64, device=d.device) for _ in range(2))
    n_iter = torch.empty(len(samples), dtype=torch.int64, device=d.device)
    weight = alpha or max(_ALMOST_NONE * _largest(samples, d, positive, batch_size), 1e-300)
    solve = _solver(d.device.type)
    for begin in range(0, len(samples), batch_size):
        part = slice(begin, begin + batch_size)
        x = samples[part].detach().to(kind)
        cost[part], gap[part], n_iter[part] = solve(x, d, g, weight, positive, tol, max_iter, codes[part])
        if progress is not None:
            progress(begin + len(x), float(gap[part].max()))
    if alpha == 0:
        warnings.warn("alpha=0 gives least-squares codes without sparsity: pass alpha > 0", stacklevel=3)
    elif not codes[0].any() and not codes.any():
        top = _largest(samples, d, positive, batch_size)
        warnings.warn(f"all codes are zero at alpha={alpha:g}: pass less than {top:g} for non-zero codes", stacklevel=3)
    short = int((gap > tol).sum())
    if short:
        warnings.warn(
            f"{short} of {len(gap)} samples did not reach the gap {tol:g}, the worst {float(gap.max()):.1e}: raise "
            "max_iter, alpha or l2",
            stacklevel=3,
        )
    return Codes(codes, cost, gap, n_iter)


def _largest(samples: Tensor, dictionary: Tensor, positive: bool, batch_size: int) -> float:
    """Returns the α from which on all codes are zero."""
    parts = (x.detach().to(dictionary) @ dictionary.T for x in samples.split(batch_size))
    return max(float((corr if positive else corr.abs()).max().clamp(min=0)) for corr in parts)


def _check(
    samples: Tensor,
    dictionary: Tensor,
    alpha: float,
    l2: float,
    start: Tensor | None,
    batch_size: int,
    tol: float,
    max_iter: int,
    gram: Tensor | None,
) -> None:
    if samples.dim() != 2 or dictionary.dim() != 2 or samples.shape[1] != dictionary.shape[1]:
        raise ValueError(
            f"samples have shape {tuple(samples.shape)} and the dictionary {tuple(dictionary.shape)}: pass (n, d) "
            "and (K, d)"
        )
    if not samples.numel() or not len(dictionary):
        raise ValueError(
            f"samples have shape {tuple(samples.shape)}, and {len(dictionary)} atoms: pass at least one of each"
        )
    if not (0 <= alpha < math.inf and 0 <= l2 < math.inf):
        raise ValueError(f"alpha={alpha}, l2={l2}: pass numbers >= 0")
    if not is_whole(batch_size):
        raise ValueError(f"batch_size={batch_size}: pass a number >= 1")
    if not tol >= 0 or not is_whole(max_iter):
        raise ValueError(f"tol={tol}, max_iter={max_iter}: pass a number >= 0 and a whole number >= 1")
    n, atoms = len(samples), len(dictionary)
    if start is not None and start.shape != (n, atoms):
        raise ValueError(f"start has shape {tuple(start.shape)}: pass codes of shape ({n}, {atoms})")
    if gram is not None and gram.shape != (atoms, atoms):
        raise ValueError(f"gram has shape {tuple(gram.shape)}: pass D Dᵀ of shape ({atoms}, {atoms})")
    for name, tensor in (("samples", samples), ("dictionary", dictionary), ("start", start), ("gram", gram)):
        if tensor is not None:
            require(name, tensor, tensor.shape)
        if tensor is not None and not all(bool(part.isfinite().all()) for part in tensor.split(batch_size)):
            raise ValueError(f"{name} contain NaN or infinity: drop or replace those rows first")


@cache
def _solver(device: str) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    if device == "cpu":
        with suppress(ImportError):  # numba is an extra
            from thalweg.coordinate import pivoting

            return pivoting.solve
    return sweeps.solve
