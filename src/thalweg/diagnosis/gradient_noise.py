"""Gradient noise: how much gradients of minibatches differ, and from which batch size on more examples are wasted."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from thalweg.diagnosis.batches import Batch, cut, examples_in, gradient
from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.observe import Loss, Seen, brief
from thalweg.tensors.as_trained import as_trained

FEWEST = 4
MOST_BYTES = 2**30


class Noise(NamedTuple):
    """The noise scale as a share: 1/B with its standard error, and how many examples each gradient was taken over."""

    inverse: float
    error: float
    size: int


def gradient_noise(seen: Seen, more: Sequence[Batch], loss: Loss, parts: int = 16) -> Noise | str:
    """Returns 1/B of the simple noise scale B = tr Σ / |G|², or why it cannot be estimated.

        V = Σ_k |g_k − ḡ|² / (K − 1) = tr Σ / b,   |G|² = |ḡ|² − V / K,   1/B = |G|² / (b V)

    g_k are the gradients of K batches of b examples each, Σ the covariance of one example's gradient; both estimates
    are unbiased. The standard error is the jackknife's, a batch left out at a time.

    Arguments:
        seen: the model, and the first batch.
        more: further batches; where there are fewer than 7 of the same size, the first is cut up.
        loss: ``(output, target) -> scalar``, the mean over the batch.
        parts: batches K at most.
    """
    params: list[Tensor] = [p for p in seen.model.parameters() if p.requires_grad]
    size = seen.examples
    batches = [b for b in (seen.batch, *more) if examples_in(b) == size]
    if len(batches) < 2 * FEWEST:
        batches = cut(seen.batch, min(parts, size // 2))
    batches = batches[: min(parts, MOST_BYTES // max(4 * sum(p.numel() for p in params), 1))]
    if len(batches) < FEWEST or not params:
        return f"the estimate needs {2 * FEWEST} examples and memory for {FEWEST} gradients; pass more examples"
    try:
        with as_trained(seen.model):
            gradients = torch.stack([gradient(seen.model, b, loss, params) for b in batches])
    except (RuntimeError, ValueError) as error:
        return brief(error)
    products = (gradients @ gradients.T).double()  # (K, K): all that is needed of them
    whole = _inverse(products, examples_in(batches[0]))
    if not math.isfinite(whole):
        return "the gradients do not differ between batches, or are not finite"
    k = len(products)
    keep = [[i for i in range(k) if i != out] for out in range(k)]
    left = torch.tensor([_inverse(products[rows][:, rows], examples_in(batches[0])) for rows in keep])
    jackknife = math.sqrt((k - 1) * float(left.var(correction=0)))
    return Noise(whole, jackknife, examples_in(batches[0]))


def _inverse(products: Tensor, size: int) -> float:
    k = len(products)
    mean = float(products.mean())  # |ḡ|²
    spread = (float(products.trace()) - k * mean) / (k - 1)
    return (mean - spread / k) / (size * spread) if spread > 0 else math.inf


def batch_size(found: Noise | str) -> list[Finding]:
    """Notes the batch size that the noise suggests, or that it cannot be estimated.

    >>> [(f.kind, f.figure) for f in batch_size(Noise(0.01, 0.002, 64))]
    [('gradient noise scale', 100.0)]
    >>> batch_size(Noise(0.01, 0.02, 64))[0].meaning
    'not determined: above 20 examples, but the measured gradients are mostly noise; pass more batches'

    Source: McCandlish et al. 2018, §2.2, App. A; Deep Learning, §8.1.3.
    """
    kind = "gradient noise scale"
    if isinstance(found, str):
        return [Finding(kind, "note", "", 0.0, f"not determined: {found}")]
    low, high = found.inverse - 2 * found.error, found.inverse + 2 * found.error
    if low <= 0:
        least = f"above {1 / high:.2g} examples, but " if high > 0 else ""
        meaning = f"not determined: {least}the measured gradients are mostly noise; pass more batches"
        return [Finding(kind, "note", "", 0.0, meaning)]
    scale = 1 / found.inverse
    meaning = (
        f"noise and gradient are equally large in a batch of {scale:.3g} examples ({1 / high:.3g} to "
        f"{1 / low:.3g}): far "
        "fewer make steps noisy, far more bring little; the scale grows during training"
    )
    size = 2 ** max(round(math.log2(scale)), 0)
    return [Finding(kind, "note", "", scale, meaning, f"batch_size = {size}")]
