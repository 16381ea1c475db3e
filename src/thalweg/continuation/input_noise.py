"""Noise on the inputs, which falls: a cost blurred over the data, whose fine distinctions come last."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from thalweg.continuation.falling import Amount, Drawing, amount_at


class InputNoise(Drawing):
    """The cost under noisy inputs as a family: J_σ = E J(θ; x + σε, y), ε ~ N(0, I); J itself at t = 1.

    One draw a batch and call; all inputs of floating type get noise.

    Arguments:
        cost: J, ``(model, batch) -> scalar``, of batches ``(*inputs, target)``.
        sigma: σ > 0 in the inputs' units, a number or a function of t, as :class:`Falling`.
        generator: of the noise, which is drawn on its device; torch's global one by default.

    Raises:
        ValueError: σ ≤ 0.

    >>> family = InputNoise(lambda model, batch: model(batch[0]).sum(), 0.5, generator=Generator().manual_seed(0))
    >>> batch = torch.zeros(4), torch.zeros(4)
    >>> [bool(family(torch.nn.Identity(), batch, t)) for t in (0.0, 1.0)]
    [True, False]

    Source: Deep Learning, §8.7.6 and §7.5.
    """

    def __init__(
        self, cost: Callable[[Any, Any], Tensor], sigma: Amount, *, generator: Generator | None = None
    ) -> None:
        super().__init__(generator)
        amount_at(sigma, 0.0, "sigma")
        self.cost, self.sigma = cost, sigma

    def __call__(self, model: Any, batch: Any, t: float) -> Tensor:
        """Returns the cost of a batch at t in [0, 1]."""
        if t >= 1:
            return self.cost(model, batch)
        sigma = amount_at(self.sigma, t, "sigma")
        *inputs, target = batch
        return self.cost(model, (*(self._noisy(x, sigma) for x in inputs), target))

    def _noisy(self, x: Tensor, sigma: float) -> Tensor:
        if not x.is_floating_point():
            return x
        noise = torch.randn(x.shape, generator=self.generator, device=self.device, dtype=x.dtype)
        return x + sigma * noise.to(x.device)
