"""Temperature: outputs divided by τ, under which a classifier's cost is close to linear in them while τ is large."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from thalweg.continuation.falling import Amount, amount_at


class Temperature:
    """The softened cost as a family: J_τ = τ L(f(x)/τ, y).

    Of cross-entropy, J_τ = τ log Σ_j exp(z_j/τ) − z_y: linear in z as τ → ∞ but for a constant, the cost itself at
    τ = 1, which is where τ should end. The factor τ keeps the gradient from vanishing with 1/τ.

    Arguments:
        loss: L, ``(output, target) -> scalar``.
        tau: τ > 0, a number or a function of t, as ``Falling(10, 1)``.

    Raises:
        ValueError: τ ≤ 0.

    >>> import torch
    >>> family = Temperature(torch.nn.functional.cross_entropy, lambda t: 10 ** (1 - t))
    >>> batch = torch.tensor([[2.0, 0.0]]), torch.tensor([1])
    >>> [round(family(torch.nn.Identity(), batch, t).item(), 3) for t in (0.0, 1.0)]
    [7.981, 2.127]

    Source: Deep Learning, §8.7.6; Rose 1998 (deterministic annealing).
    """

    def __init__(self, loss: Callable[[Any, Any], Tensor], tau: Amount) -> None:
        amount_at(tau, 0.0, "tau")
        self.loss, self.tau = loss, tau

    def __call__(self, model: Any, batch: Any, t: float) -> Tensor:
        """Returns the cost of a batch ``(*inputs, target)`` at t."""
        tau = amount_at(self.tau, t, "tau")
        *inputs, target = batch
        return tau * self.loss(model(*inputs) / tau, target)
