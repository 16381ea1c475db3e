"""The lasso's duality gap: how far above its minimum a sample's cost is at most."""

import torch
from torch import Tensor


def gap_from(
    codes: Tensor, corr: Tensor, left: Tensor, half_sq: Tensor, alpha: float, positive: bool
) -> tuple[Tensor, Tensor]:
    """Returns each sample's cost and relative duality gap.

    With r = x − cD and q = Dr the cost is P = ½‖r‖² + α‖c‖₁, and s r is dual feasible where s = min(1, α / max|q|),
    the maximum of q itself where codes are to be positive; its value s xᵀr − ½ s²‖r‖² is below every cost.

    Arguments:
        codes: c ``(n, K)``.
        corr: b = Dx ``(n, K)``.
        left: q = b − cG ``(n, K)``.
        half_sq: ½‖x‖² ``(n,)``.
        alpha: α > 0.
        positive: whether codes are to be ≥ 0.

    Returns:
        P and (P − dual) / P, each ``(n,)``; 0 where P is 0.
    """
    cb = (codes * corr).sum(1)
    residual = (2 * half_sq - cb - (codes * left).sum(1)).clamp(min=0)
    cost = 0.5 * residual + alpha * codes.abs().sum(1)
    top = (left if positive else left.abs()).amax(1)
    scale = (alpha / top.clamp(min=alpha)).clamp(max=1)
    gap = cost - scale * (2 * half_sq - cb) + 0.5 * scale**2 * residual
    return cost, torch.where(cost > 0, gap.clamp(min=0) / cost, 0.0)


def duality_gap(
    codes: Tensor, samples: Tensor, dictionary: Tensor, alpha: float, *, l2: float = 0.0, positive: bool = False
) -> Tensor:
    """Returns the relative duality gap of each sample's code, computed in float64 from nothing but its arguments.

    The cost is ½‖x − cD‖² + α‖c‖₁ + ½ l2‖c‖²; a gap of 1e-6 says that no code has a cost lower by more than a
    millionth.

    Arguments:
        codes: c ``(n, K)``.
        samples: x ``(n, d)``.
        dictionary: D ``(K, d)``, one atom a row.
        alpha: α > 0.
        l2: weight of the elastic net's square.
        positive: whether only codes ≥ 0 compete.

    Returns:
        ``(n,)`` in float64.

    >>> D, x = torch.eye(2), torch.tensor([[3.0, 0.5]])
    >>> duality_gap(torch.tensor([[2.0, 0.0]]), x, D, 1.0).tolist()
    [0.0]
    >>> round(duality_gap(torch.zeros(1, 2), x, D, 1.0).item(), 3)
    0.444

    Source: Deep Learning, §8.7.2; Kim, Koh, Lustig, Boyd & Gorinevsky 2007.
    """
    c, x, d = codes.double(), samples.double(), dictionary.double()
    corr = x @ d.T
    left = corr - (c @ d) @ d.T - l2 * c
    return gap_from(c, corr, left, 0.5 * (x * x).sum(1), alpha, positive)[1]
