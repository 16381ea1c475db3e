"""The lasso of many samples on the CPU: pivots on the support of one sample at a time, compiled by numba.

On a support S with signs s the cost is a quadratic whose minimum solves  G_SS c_S = b_S − α s.  From it

1. price: q = b − G c at every atom; stop when the duality gap is small;
2. let in the atoms j with the largest |q_j| > α, one after another: c_j grows by t while c_S moves by −t u,
   u = H G_Sj, H = (G_SS)⁻¹, until |q_j| = α at t = (|q_j| − α) / σ, σ = G_jj − G_jS u;
3. where a coefficient comes to zero before, it leaves the support and the rest goes on.

Letting in and out are rank-one changes of H, so a pivot costs O(|S|²); pricing, O(K |S|), is done once for several.
Every move lowers the cost, so no support comes twice and the end is exact.

Source: Deep Learning, §8.7.2; Osborne, Presnell & Turlach 2000; Lee, Battle, Raina & Ng 2007 (feature-sign search).
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from thalweg.tensors.form import require

_FAST = {"reassoc", "contract", "nsz", "arcp", "nnan"}  # sums in any order; infinities count, so no "ninf"
_SHARES, _LEAST = 4, 128  # a thread takes several shares of the samples, of so many at least
_NEAR, _AT_ONCE = 0.4, 4  # let in between two pricings: atoms within this share of the largest excess, so many at most
_DEPENDENT = 1e-10  # of an atom's square: what the support's span leaves of one that lies in it

Array = NDArray[np.float64]


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
    """Minimises ½ c G cᵀ − b cᵀ + α‖c‖₁, b = Dx, for every sample x.

    Arguments:
        samples: ``(n, d)`` on the CPU.
        dictionary: D ``(K, d)`` in float64.
        gram: G ``(K, K)`` in float64: D Dᵀ, or with an elastic net more on the diagonal.
        alpha: α > 0.
        positive: whether codes are to be ≥ 0.
        tol: relative duality gap to reach.
        max_iter: pivots a sample at most.
        codes: to begin from ``(n, K)``, contiguous; the best ones take their place.

    Returns:
        Cost, relative duality gap and number of pivots of each sample ``(n,)``.
    """
    n, atoms = len(samples), len(dictionary)
    require("samples", samples, (n, dictionary.shape[-1]))
    require("dictionary", dictionary, (atoms, dictionary.shape[-1]))
    require("gram", gram, (atoms, atoms))
    require("codes", codes, (n, atoms))
    costs, gaps, pivots = np.empty(n), np.empty(n), np.empty(n, np.int64)
    x, g, transposed = (t.contiguous().numpy() for t in (samples, gram, dictionary.T))
    c, threads = codes.numpy(), torch.get_num_threads()
    shares = max(1, min(_SHARES * threads, n // _LEAST))

    def run(share: int) -> None:  # each takes every shares-th sample, since neighbours cost alike
        _solve(g, transposed, x, alpha, -float(not positive), tol, max_iter, c, costs, gaps, pivots, share, shares)

    if min(threads, shares) == 1:  # a pool costs as much as ten samples
        for share in range(shares):
            run(share)
    else:
        with ThreadPoolExecutor(min(threads, shares)) as pool:
            list(pool.map(run, range(shares)))
    return torch.from_numpy(costs), torch.from_numpy(gaps), torch.from_numpy(pivots)


@njit(nogil=True, cache=True, fastmath=_FAST)
def _subtract(out: Array, rows: Array, which: NDArray[np.int64], weights: Array, k: int, size: int) -> None:
    """out[:size] −= Σ weights[i] rows[which[i], :size] over i < k, four rows at a time."""
    i = 0
    while i + 4 <= k:
        w0, w1, w2, w3 = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        r0, r1, r2, r3 = rows[which[i]], rows[which[i + 1]], rows[which[i + 2]], rows[which[i + 3]]
        for m in range(size):
            out[m] -= w0 * r0[m] + w1 * r1[m] + w2 * r2[m] + w3 * r3[m]
        i += 4
    while i < k:
        w0, r0 = weights[i], rows[which[i]]
        for m in range(size):
            out[m] -= w0 * r0[m]
        i += 1


@njit(nogil=True, cache=True, fastmath=_FAST)
def _let_in(inverse: Array, u: Array, k: int, sigma: float) -> None:
    """H of the support and one atom more, which becomes the last; u is −H g, sigma the Schur complement."""
    share = 1 / sigma
    for i in range(k):
        row, x = inverse[i], u[i] * share
        for m in range(k):
            row[m] += x * u[m]
        row[k] = x
        inverse[k, i] = x
    inverse[k, k] = share


@njit(nogil=True, cache=True, fastmath=_FAST)
def _let_out(inverse: Array, support: NDArray[np.int64], c: Array, extra: Array, out: int, k: int) -> None:
    """H of the support without one atom, whose place the last one takes; k counts those that stay."""
    if out != k:
        support[out], c[out], extra[out] = support[k], c[k], extra[k]
        for m in range(k + 1):
            inverse[out, m], inverse[k, m] = inverse[k, m], inverse[out, m]
        for m in range(k + 1):
            inverse[m, out], inverse[m, k] = inverse[m, k], inverse[m, out]
    share, last = 1 / inverse[k, k], inverse[k]
    for i in range(k):
        row, x = inverse[i], last[i] * share
        for m in range(k):
            row[m] -= x * last[m]


@njit(nogil=True, cache=True, fastmath=_FAST)
def _solve(
    gram: Array,
    transposed: Array,
    rows: Array,
    alpha: float,
    low: float,
    tol: float,
    max_iter: int,
    codes: Array,
    costs: Array,
    gaps: Array,
    pivots: NDArray[np.int64],
    first: int,
    stride: int,
) -> None:
    """Solves every ``stride``-th sample; max(q, low·q) is |q|, or q where codes are to be positive."""
    atoms, features = len(gram), len(transposed)
    inverse = np.empty((atoms + 8, atoms + 8))  # rows off the powers of two, which share places in the cache
    order, support, c = np.arange(max(atoms, features)), np.empty(atoms, np.int64), np.empty(atoms)
    g, u, q, excess = np.empty(atoms), np.empty(atoms), np.empty(atoms), np.empty(atoms)
    candidates, b, opposite = np.empty(atoms, np.int64), np.empty(atoms), np.empty(features)
    for n in range(first, len(rows), stride):
        square, k, count = 0.0, 0, 0
        for i in range(features):
            opposite[i] = -rows[n, i]
            square += opposite[i] * opposite[i]
        for j in range(atoms):
            b[j] = 0.0
        _subtract(b, transposed, order, opposite, features, atoms)
        for j in range(atoms):  # the start's support
            if codes[n, j] != 0:
                for i in range(k):
                    g[i], u[i] = gram[j, support[i]], 0.0
                _subtract(u, inverse, order, g, k, k)
                sigma = gram[j, j]
                for i in range(k):
                    sigma += u[i] * g[i]
                if sigma > _DEPENDENT * gram[j, j]:
                    _let_in(inverse, u, k, sigma)
                    support[k], c[k] = j, codes[n, j]
                    k += 1
        settled, again, cost, gap, before = k == 0, False, 0.0, 1.0, np.inf
        while True:
            for j in range(atoms):
                q[j] = b[j]
            _subtract(q, gram, support, c, k, atoms)
            top = 0.0
            for j in range(atoms):
                top = max(top, q[j], low * q[j])
            cb, cq, l1 = 0.0, 0.0, 0.0
            for i in range(k):
                cb += c[i] * b[support[i]]
                cq += c[i] * q[support[i]]
                l1 += abs(c[i])
            left = max(square - cb - cq, 0.0)
            cost, scale = 0.5 * left + alpha * l1, min(1.0, alpha / max(top, alpha))
            gap = (cost - scale * (square - cb) + 0.5 * scale * scale * left) / max(cost, 1e-300)
            if gap <= tol or count >= max_iter:
                break
            if not settled:  # on the support, towards its minimum
                for i in range(k):
                    excess[i] = q[support[i]] - (alpha if c[i] > 0 else -alpha)
                while True:
                    count += 1
                    for i in range(k):
                        u[i] = 0.0
                    _subtract(u, inverse, order, excess, k, k)
                    step, out = 1.0, -1
                    for i in range(k):
                        if c[i] * (c[i] - u[i]) < 0 and c[i] / u[i] < step:
                            step, out = c[i] / u[i], i
                    for i in range(k):
                        c[i] -= step * u[i]
                        excess[i] *= 1 - step
                    if out < 0:
                        break
                    k -= 1
                    _let_out(inverse, support, c, excess, out, k)
                settled = True
                continue
            if top <= alpha * (1 + 1e-12) or cost >= before:
                if again:
                    break  # rounding leaves nothing to gain
                settled, again = False, True  # takes away what rounding has put into c
                continue
            again, before = False, cost
            least, found = alpha + _NEAR * (top - alpha), 0
            for j in range(atoms):
                if max(q[j], low * q[j]) >= least:
                    candidates[found] = j
                    found += 1
            for i in range(min(found, _AT_ONCE)):  # the largest first
                for m in range(i + 1, found):
                    a, d = q[candidates[i]], q[candidates[m]]
                    if max(d, low * d) > max(a, low * a):
                        candidates[i], candidates[m] = candidates[m], candidates[i]
            for place in range(min(found, _AT_ONCE)):
                j = candidates[place]
                row, now = gram[j], b[j]
                for i in range(k):
                    g[i] = row[support[i]]
                    now -= c[i] * g[i]
                above, grown = max(now, low * now) - alpha, 0.0
                if above < least - alpha and place > 0:
                    continue
                sign = 1.0 if now > 0 else -1.0
                while True:
                    count += 1
                    for i in range(k):
                        u[i] = 0.0
                    _subtract(u, inverse, order, g, k, k)
                    sigma = row[j]
                    for i in range(k):
                        sigma += u[i] * g[i]
                    t = above / sigma if sigma > _DEPENDENT * row[j] else np.inf
                    out = -1
                    for i in range(k):
                        x = -u[i] * sign
                        if x * c[i] > 0 and c[i] / x < t:
                            t, out = c[i] / x, i
                    if t == np.inf:
                        break  # only by rounding: an atom of the span that would take none down
                    for i in range(k):
                        c[i] += sign * t * u[i]
                    grown += t
                    if out < 0:
                        _let_in(inverse, u, k, sigma)
                        support[k], c[k] = j, sign * grown
                        k += 1
                        break
                    above -= t * sigma
                    k -= 1
                    _let_out(inverse, support, c, g, out, k)
        for j in range(atoms):
            codes[n, j] = 0.0
        for i in range(k):
            codes[n, support[i]] = c[i]
        costs[n], gaps[n], pivots[n] = cost, max(gap, 0.0), count
