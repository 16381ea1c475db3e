"""The criterion by which a run has diverged."""

from torch import Tensor

DIVERGED_AT = 10.0  # a loss above this multiple of the run's first loss has diverged


def first_divergence(losses: Tensor, first: Tensor, usual: float) -> list[int | None]:
    """Returns for each lane the index of its first bad loss, or None.

    A loss is bad when it is not finite or exceeds :data:`DIVERGED_AT` times the lane's first loss, or that many times
    the usual one where the first is nearer to zero, as that of a model which has been trained already.
    Arguments: ``losses`` ``(steps, lanes)``, ``first`` ``(lanes,)``, ``usual`` see :meth:`TaskContext.usual_loss`.
    """
    limit = first + (DIVERGED_AT - 1) * first.abs().clamp_min(usual)
    bad = ~(losses <= limit) | losses.isinf()
    indices = bad.int().argmax(dim=0)
    return [int(i) if hit else None for i, hit in zip(indices.tolist(), bad.any(dim=0).tolist(), strict=True)]
