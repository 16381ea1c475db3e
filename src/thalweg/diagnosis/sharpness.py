"""Curvature at the start and after a few steps: how long a step may be, and how much of the curvature is negative."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from thalweg.curvature import Hessian
from thalweg.curvature.lanczos import Tridiagonal, gaussian, lanczos
from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.observe import Loss, Seen, brief
from thalweg.tensors.as_trained import as_trained, put_back
from thalweg.tensors.seeds import generator

MOST_BYTES = 2**32
STEPS, HALVINGS = 10, 20


class Curvature(NamedTuple):
    """Ends of the Hessian's spectrum as far as found, the negative share of Σ|λ|, and a lower bound of the condition.

    ``condition`` is max |λ| / min |λ|, which is at least this; infinite where the Hessian is singular for sure.
    """

    smallest: float
    largest: float
    negative: float
    condition: float


def curvature(
    seen: Seen, loss: Loss, steps: int = 20, descended: int = 0, largest: float | None = None
) -> Curvature | str:
    """Returns what Lanczos shows of the Hessian, or why it shows nothing.

        share = Σ ω_i |θ_i| [θ_i < 0] / Σ ω_i |θ_i|,   θ_i Ritz values, ω_i their weights in a random start

    Ritz values lie within the spectrum, so that max |θ| ≤ max |λ|; and min |λ| ≤ ‖Hq‖ for every unit vector q, the
    least of which in the space of Lanczos's vectors is the least singular value of T with its next row.

    Arguments:
        seen: model and batch.
        loss: ``(output, target) -> scalar``.
        steps: products with the Hessian at most.
        descended: steps of gradient descent on the batch before, of length 1/λmax at the start, and halved for as
            long as the loss would rise.
        largest: λmax at the start where it is known.

    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Linear(2, 1, bias=False)
    >>> seen = observe(net, (torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 1)), nn.functional.mse_loss)
    >>> [round(v, 4) for v in curvature(seen, nn.functional.mse_loss)]
    [1.0, 4.0, 0.0, 4.0]
    """
    params: list[Tensor] = [p for p in seen.model.parameters() if p.requires_grad]
    if not params:
        return "no parameter is trained"
    needed = steps * sum(p.numel() * p.element_size() for p in params)
    if needed > MOST_BYTES:
        return (
            f"{steps} vectors of the size of the parameters take {needed / 2**30:.1f} GiB; pass fewer curvature_steps"
        )
    try:
        with _plain(), as_trained(seen.model), put_back(params):
            if descended:
                if largest is None:
                    largest = float(_lanczos(seen, loss, params, min(steps, 10)).eigh()[0].abs().max())
                _descend(seen, loss, params, descended, largest)
            found = _lanczos(seen, loss, params, steps)
    except (RuntimeError, ValueError) as error:  # NotImplementedError among them
        return brief(error)
    return _read(found)


@contextmanager
def _plain() -> Iterator[None]:
    """Attention and recurrent layers have second derivatives in their plain form only."""
    with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
        yield


def _lanczos(seen: Seen, loss: Loss, params: list[Tensor], steps: int) -> Tridiagonal:
    hessian = Hessian(_value(seen, loss), params)
    return lanczos(hessian, gaussian(hessian, generator(0, "diagnosis")), steps)


def _descend(seen: Seen, loss: Loss, params: list[Tensor], steps: int, largest: float) -> None:
    step = 1 / largest if largest > 0 else 0.0
    value = _value(seen, loss)
    for _ in range(steps if step else 0):
        slopes = torch.autograd.grad(value, params, allow_unused=True)
        moved = [(p, p.detach().clone(), slope) for p, slope in zip(params, slopes, strict=True) if slope is not None]
        for _ in range(HALVINGS):
            with torch.no_grad():
                for p, start, slope in moved:
                    p.copy_(start.add(slope, alpha=-step))
            now = _value(seen, loss)
            if now.item() <= value.item():
                break
            step /= 2
        else:
            with torch.no_grad():
                for p, start, _ in moved:
                    p.copy_(start)
            return
        value = now


def _value(seen: Seen, loss: Loss) -> Tensor:
    return loss(seen.model(*seen.inputs), seen.target).reshape(())


def _read(found: Tridiagonal) -> Curvature:
    values, vectors = found.eigh()
    sizes = vectors[0] ** 2 * values.abs()
    total, top = float(sizes.sum()), float(values.abs().max())
    negative = float(sizes[values < -1e-6 * top].sum())
    m = len(values)
    tall = torch.zeros(m + 1, m, dtype=torch.float64)
    tall[:m] = torch.diag(found.diagonal) + torch.diag(found.off_diagonal, 1) + torch.diag(found.off_diagonal, -1)
    tall[m, m - 1] = found.residual
    least = float(torch.linalg.svdvals(tall)[-1])
    flat = least <= 1e-7 * top  # as float32 products go
    return Curvature(
        float(values[0]), float(values[-1]), negative / total if total > 0 else 0.0, math.inf if flat else top / least
    )


def sharpness(found: Curvature | str, when: str = "at the start") -> list[Finding]:
    """Notes the largest stable learning rate 2/λmax of gradient descent, the condition, the negative share.

    >>> [(f.kind, f.figure) for f in sharpness(Curvature(-1.0, 4.0, 0.25, 40.0))]
    [('largest stable lr', 0.5), ('condition', 40.0), ('negative curvature', 0.25)]

    Source: Deep Learning, §4.3.1, §8.2.1, §8.2.3.
    """
    if isinstance(found, str):
        return [Finding("curvature", "note", "", 0.0, f"{when}, not measured: {found}")]
    notes = []
    if found.largest > 0:
        ends = f"λmax {found.largest:.3g}, λmin {found.smallest:.3g}"
        meaning = f"{when}, gradient descent diverges above 2/λmax; {ends}"
        notes.append(Finding("largest stable lr", "note", "", 2 / found.largest, meaning))
    times = "at least this many times" if math.isfinite(found.condition) else "infinitely many times"
    meaning = f"{when}, the largest curvature is {times} the smallest: no step size suits both"
    notes.append(Finding("condition", "note", "", found.condition, meaning))
    meaning = f"{found.negative:.0%} of the absolute curvature {when} is negative"
    return [*notes, Finding("negative curvature", "note", "", found.negative, meaning)]
