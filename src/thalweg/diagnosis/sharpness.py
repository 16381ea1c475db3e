"""Curvature at the start: how long a step may be, and how much of the curvature is negative."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from thalweg.curvature import Hessian
from thalweg.curvature.lanczos import gaussian, lanczos
from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.observe import Loss, Seen, as_trained, brief
from thalweg.tensors.seeds import generator

MOST_BYTES = 2**32


class Curvature(NamedTuple):
    """Smallest and largest eigenvalue of the Hessian as far as found, and the negative share of Σ|λ|."""

    smallest: float
    largest: float
    negative: float


def curvature(seen: Seen, loss: Loss, steps: int = 20) -> Curvature | str:
    """Returns what Lanczos shows of the Hessian at the start, or why it shows nothing.

        share = Σ ω_i |θ_i| [θ_i < 0] / Σ ω_i |θ_i|,   θ_i Ritz values, ω_i their weights in a random start

    Arguments:
        seen: model and batch.
        loss: ``(output, target) -> scalar``.
        steps: products with the Hessian at most.

    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Linear(2, 1, bias=False)
    >>> seen = observe(net, (torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 1)), nn.functional.mse_loss)
    >>> [round(v, 4) for v in curvature(seen, nn.functional.mse_loss)]
    [1.0, 4.0, 0.0]
    """
    params: list[Tensor] = [p for p in seen.model.parameters() if p.requires_grad]
    if not params:
        return "no parameter is trained"
    needed = steps * sum(p.numel() * p.element_size() for p in params)
    if needed > MOST_BYTES:
        return f"{steps} vectors of the parameters' size take {needed / 2**30:.1f} GiB; pass fewer curvature_steps"
    try:
        # Attention and recurrent layers have second derivatives in their plain form only.
        with as_trained(seen.model), sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
            hessian = Hessian(loss(seen.model(*seen.inputs), seen.target).reshape(()), params)
            found = lanczos(hessian, gaussian(hessian, generator(0, "diagnosis")), steps)
    except (RuntimeError, ValueError) as error:  # NotImplementedError among them
        return brief(error)
    values, vectors = found.eigh()
    sizes = vectors[0] ** 2 * values.abs()
    total = float(sizes.sum())
    negative = float(sizes[values < -1e-6 * values.abs().max()].sum())
    return Curvature(float(values[0]), float(values[-1]), negative / total if total > 0 else 0.0)


def sharpness(found: Curvature | str) -> list[Finding]:
    """Notes the largest stable learning rate 2/λmax of gradient descent, the ends of the spectrum, the negative share.

    >>> [(f.kind, f.figure) for f in sharpness(Curvature(-1.0, 4.0, 0.25))]
    [('largest stable lr', 0.5), ('negative curvature', 0.25)]

    Source: Deep Learning, §8.2.1, §8.2.3, §4.3.1.
    """
    if isinstance(found, str):
        return [Finding("curvature", "note", "", 0.0, f"not looked at: {found}")]
    notes = []
    if found.largest > 0:
        lr = 2 / found.largest
        meaning = (
            f"gradient descent diverges at first above 2/λmax; λmax {found.largest:.3g}, λmin {found.smallest:.3g}"
        )
        notes.append(Finding("largest stable lr", "note", "", lr, meaning))
    meaning = f"{found.negative:.0%} of the absolute curvature at the start is negative"
    return [*notes, Finding("negative curvature", "note", "", found.negative, meaning)]
