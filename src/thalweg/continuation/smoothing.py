"""Gaussian smoothing: a cost blurred over its parameters, whose small minima are gone where the blur is wide."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from thalweg.continuation.falling import Amount, Drawing, amount_at
from thalweg.tensors.error_texts import is_about_vmap
from thalweg.tensors.ranges import is_whole

Cost = Callable[[Any, Any], Tensor]  # (model, batch) -> loss


class CannotBatch(RuntimeError):
    """The cost of several samples of the parameters cannot be computed at once."""


class GaussianSmoothing(Drawing):
    """The blurred cost as a family: J_σ(θ) = E J(θ + σε), ε ~ N(0, I), estimated by sampling; J itself at t = 1.

        Ĵ = (1/2K) Σ_k [J(θ + σε_k) + J(θ − σε_k)]

    Value and gradient are unbiased; the gradient only where J does not jump. A pair cancels what is odd in ε, so that
    the gradient of a quadratic is exact. All samples run in one batched pass; the noise goes onto the parameters that
    require a gradient. Every sample costs a gradient evaluation.

    Buffers that the model writes, as batch norm's, are left with their mean over the samples; every sample draws
    its own dropout.

    Arguments:
        cost: J, ``(model, batch) -> scalar``.
        sigma: σ > 0, a number or a function of t, as :class:`Falling`.
        samples: evaluations 2K; any number without pairs.
        antithetic: whether samples come in pairs ±ε.
        generator: of the noise, which is drawn on its device; torch's global one by default.
        chunk: samples in memory at once, the others of the backward pass being worked out again; all by default. 1 runs
            them one by one without ``vmap``, for costs that it does not take.

    Raises:
        ValueError: σ ≤ 0, an odd or too small number of samples or chunk; at the call, no parameter to put noise on.

    >>> class Point(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.x = nn.Parameter(torch.tensor(3.0))
    >>> smooth = GaussianSmoothing(lambda point, batch: point.x**2, sigma=0.5, generator=Generator().manual_seed(0))
    >>> point = Point()
    >>> smooth(point, None, t=0.0).backward()
    >>> round(point.x.grad.item(), 4)
    6.0

    Source: Deep Learning, §8.7.6, equation 8.40.
    """

    def __init__(
        self,
        cost: Cost,
        sigma: Amount,
        samples: int = 8,
        *,
        antithetic: bool = True,
        generator: Generator | None = None,
        chunk: int | None = None,
    ) -> None:
        super().__init__(generator)
        amount_at(sigma, 0.0, "sigma")
        if not is_whole(samples) or (antithetic and samples % 2):
            raise ValueError(f"samples is {samples}: give at least 1, an even number for antithetic pairs")
        if chunk is not None and not is_whole(chunk):
            raise ValueError(f"chunk is {chunk}: give at least 1 sample")
        self.cost, self.sigma, self.samples, self.antithetic = cost, sigma, samples, antithetic
        self.chunk = chunk

    def __call__(self, model: nn.Module, batch: Any, t: float = 0.0) -> Tensor:
        """Returns the estimate ``()`` for a batch at t in [0, 1]."""
        if t >= 1:
            return self.cost(model, batch)
        sigma = amount_at(self.sigma, t, "sigma")
        whole = _Costed(self.cost, model)
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError("no parameter of the model requires a gradient: there is nothing to smooth over")
        total = torch.zeros(())
        before = {name: buffer.detach().clone() for name, buffer in whole.named_buffers()}
        after = dict(before)
        for count in self._counts():
            share = count / self.samples
            arguments = (whole, batch, sigma, count, self._seed())
            if self.chunk is not None and self.chunk < self.samples and torch.is_grad_enabled():
                values, written = checkpoint(self._values, *arguments, use_reentrant=False)
            else:
                values, written = self._values(*arguments)
            total = total.to(values) + share * values.mean()
            for name, stack in written.items():
                if stack.is_floating_point():  # by differences, so that what is only read stays to the bit
                    change = torch.where(stack == before[name], 0, stack - before[name])
                    after[name] = after[name] + share * change.mean(dim=0)
                else:
                    after[name] = stack[0]
        with torch.no_grad():
            for name, buffer in whole.named_buffers():
                buffer.copy_(after[name])
        return total

    def _counts(self) -> Iterator[int]:
        """Yields how many samples each pass has, pairs undivided."""
        unit = 2 if self.antithetic else 1
        size = max(unit, (self.chunk or self.samples) // unit * unit)
        for begin in range(0, self.samples, size):
            yield min(size, self.samples - begin)

    def _seed(self) -> int:
        return int(torch.randint(2**62, (), generator=self.generator, device=self.device))

    def _values(
        self, whole: nn.Module, batch: Any, sigma: float, count: int, seed: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the costs of some samples ``(count,)``, and the buffers after them, stacked."""
        source = Generator(self.device).manual_seed(seed)
        params = {
            name: p + sigma * self._noise(p, count, source) for name, p in whole.named_parameters() if p.requires_grad
        }
        buffers = {name: b.expand(count, *b.shape).clone() for name, b in whole.named_buffers()}
        if self.chunk == 1:
            rows = [({n: p[i] for n, p in params.items()}, {n: b[i] for n, b in buffers.items()}) for i in range(count)]
            values = torch.stack([functional_call(whole, row, (batch,)) for row in rows])
        else:
            values = _batched(whole, params, buffers, batch)
        return values, {name: b.detach() for name, b in buffers.items()}

    def _noise(self, p: Tensor, count: int, source: Generator) -> Tensor:
        """Returns ε ``(count, *shape)``."""
        drawn = count // 2 if self.antithetic else count
        noise = torch.randn(drawn, *p.shape, generator=source, device=source.device, dtype=p.dtype).to(p.device)
        return torch.cat([noise, -noise]) if self.antithetic else noise


class _Costed(nn.Module):
    """The cost as a module around its model: whatever the cost asks of the model, it sees the sample's parameters."""

    def __init__(self, cost: Cost, model: nn.Module) -> None:
        super().__init__()
        self.cost, self.model = cost, model

    def forward(self, batch: Any) -> Tensor:
        return self.cost(self.model, batch)


def _batched(whole: nn.Module, params: dict[str, Tensor], buffers: dict[str, Tensor], batch: Any) -> Tensor:
    def one(params: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return functional_call(whole, (params, buffers), (batch,))

    try:
        return torch.vmap(one, randomness="different")(params, buffers)
    except RuntimeError as error:
        if not is_about_vmap(error):
            raise
        line = str(error).splitlines()[0]
        raise CannotBatch(f"the cost cannot run batched ({line}): pass chunk=1 to run samples one by one") from error
