"""Orthogonal matching pursuit of many samples at once: the atom nearest the residual, then least squares anew."""

import torch
from torch import Tensor

from thalweg.tensors.form import require

_ELEMENTS = 1 << 22  # of the matrices factorized at once, and of the correlations


@torch.no_grad()
def orthogonal_matching_pursuit(
    samples: Tensor, dictionary: Tensor, n_nonzero: int | None = None, tol: float | None = None
) -> Tensor:
    """Returns codes of few atoms, chosen greedily: j = argmax |d_jᵀr|, then c_S = argmin ‖x − c_S D_S‖, r = x − cD.

    A sample ends where its residual is at most ``tol``, at ``n_nonzero`` atoms, or where no atom is left that is
    independent of those chosen.

    Arguments:
        samples: x ``(n, d)``.
        dictionary: D ``(K, d)``, one atom a row; atoms of like norm are judged fairly.
        n_nonzero: atoms a sample at most, k; d/10, but one at least, if ``tol`` is not given either.
        tol: of ‖r‖², as in scikit-learn.

    Returns:
        ``(n, K)`` on the samples' device, where all is computed; beside it, memory is bounded, and one sample needs k².

    Raises:
        ValueError: shapes that do not fit, ``n_nonzero`` out of 1 … K, negative ``tol``.

    >>> x, atoms = torch.tensor([[3.0, 0.5, -2.0]]), torch.eye(3)
    >>> orthogonal_matching_pursuit(x, atoms, 2).tolist()
    [[3.0, 0.0, -2.0]]

    Source: Deep Learning, §2.12 and §14.6.1; Pati, Rezaiifar & Krishnaprasad 1993; Rubinstein et al. 2008 (Gram form).
    """
    atoms, features = dictionary.shape
    require("samples", samples, (len(samples), features))
    require("dictionary", dictionary, (atoms, features))
    if n_nonzero is None:
        n_nonzero = min(atoms, features) if tol is not None else min(max(features // 10, 1), atoms)
    if not 1 <= n_nonzero <= atoms or (tol is not None and tol < 0):
        raise ValueError(f"n_nonzero={n_nonzero}, tol={tol}: pass 1 to {atoms} atoms and a tolerance >= 0")
    d = dictionary.double()
    gram = d @ d.T
    kind = samples.dtype if samples.is_floating_point() else torch.float32
    codes = torch.zeros(len(samples), atoms, dtype=kind, device=samples.device)
    rows = max(1, _ELEMENTS // max(atoms, n_nonzero**2))
    for part, found in zip(samples.split(rows), codes.split(rows), strict=True):
        found.copy_(_pursue(part.double(), d, gram, n_nonzero, tol))
    return codes


def _pursue(x: Tensor, d: Tensor, gram: Tensor, n_nonzero: int, tol: float | None) -> Tensor:
    corr, squares = x @ d.T, (x * x).sum(1)
    codes = torch.zeros_like(corr)
    going, support = torch.arange(len(x), device=x.device), corr.new_empty(len(x), 0, dtype=torch.int64)
    for _ in range(n_nonzero):
        c = codes[going]
        q = corr[going] - c @ gram
        residual = squares[going] - (c * (corr[going] + q)).sum(1)
        open_ = residual > (tol if tol is not None else 1e-14 * squares[going])
        going, support, q = going[open_], support[open_], q[open_].scatter(1, support[open_], 0.0)
        if not len(going):
            break
        support = torch.cat([support, q.abs().argmax(1, keepdim=True)], 1)
        inside = gram[support[:, :, None], support[:, None, :]]
        factor, failed = torch.linalg.cholesky_ex(inside)
        last = factor[:, -1, -1] ** 2
        good = (failed == 0) & (last > 1e-12 * inside[:, -1, -1])
        going, support, factor = going[good], support[good], factor[good]
        best = torch.cholesky_solve(corr[going].gather(1, support)[..., None], factor)[..., 0]
        codes[going] = codes.new_zeros(len(going), len(d)).scatter(1, support, best)
    return codes
