"""Population statistics for evaluation: mean and variance over a whole data set, in one pass.

Over batches b of n_b values a channel, joined one after another by Chan's rule in float64:

    δ = μ_b − μ,    μ ← μ + δ n_b / (n + n_b),    M ← M + M_b + δ² n n_b / (n + n_b),    n ← n + n_b

M is the sum of squares about the mean, and M/(n − 1) the variance, unbiased as torch's ``running_var`` is. Batches
count by their sizes, and the variance between them is part of it; torch's ``update_bn`` weights all batches alike and
leaves that part out.

Source: Deep Learning, §8.7.1; Ioffe & Szegedy 2015, algorithm 2; Chan, Golub & LeVeque 1979.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from thalweg.normalization.batch_norm import Statistics
from thalweg.tensors.as_trained import as_trained
from thalweg.tensors.known import overridden
from thalweg.tensors.private import BatchNormBase

M = TypeVar("M", bound=nn.Module)


def estimate_population_statistics(
    model: M, batches: Iterable[Any], *, call: Callable[[M, Any], Any] | None = None
) -> M:
    """Sets the running statistics of every batch normalization to those of the whole data, in place; returns the model.

    All of them are estimated in the same pass, in which each normalizes by the batch, as in training: a normalization
    behind another sees inputs normalized batch by batch, and the larger the batches, the nearer are these to what it
    will see in evaluation. Dropout is off. Modes, momentum, other buffers and random state stay as they were;
    ``num_batches_tracked`` becomes the number of batches. A normalization that runs several times pools what it sees.

    Arguments:
        model: any module; normalizations without running statistics, and those that do not run, are left alone.
        batches: a loader: tensors, tuples or lists whose first element is the model's input, or dictionaries of
            the model's keyword arguments; moved to the device of the model's parameters.
        call: runs a batch of another kind, ``call(model, batch)``; what it returns is not used.

    Raises:
        ValueError: no batch; a batch with a single value a channel; statistics that are not finite. The model is then
            as it was.
        TypeError: a batch of another kind without ``call``.

    >>> levels = torch.cat([torch.zeros(90, 1), torch.ones(10, 1)])
    >>> norm = estimate_population_statistics(nn.BatchNorm1d(1), levels.split(90))
    >>> norm.running_mean.item(), norm.running_var.item() * 99 / 100
    (0.1000..., 0.0900...)
    """
    norms = {n: m for n, m in model.named_modules() if isinstance(m, BatchNormBase)}
    norms = {name: norm for name, norm in norms.items() if norm.running_mean is not None}
    pools = {name: _Pool(getattr(norm, "dim", 1)) for name, norm in norms.items()}
    own = {n for n, norm in norms.items() if overridden(norm, (BatchNormBase,))}
    inside = _Inside({id(norms[name].running_mean): pools[name] for name in own})
    handles = [
        norm.register_forward_pre_hook(pools[name].see, with_kwargs=True)
        for name, norm in norms.items()
        if name not in own
    ]
    count = 0
    try:
        with as_trained(model), torch.no_grad(), inside:
            for norm in norms.values():
                norm.train()
            for batch in batches:
                (call or _call)(model, batch)
                count += 1
    finally:
        for handle in handles:
            handle.remove()
    if not count:
        raise ValueError("the loader gave no batch: pass one that is not exhausted")
    found = {name: pool.statistics() for name, pool in pools.items() if pool.batches}
    bad = next((name for name, (mean, var, _) in found.items() if not (mean + var).isfinite().all()), None)
    if bad is not None:
        raise ValueError(f"the inputs of {bad or 'the model'!r} are not finite: check the data and the weights")
    for name, values in found.items():
        norm = norms[name]
        for buffer, value in zip((norm.running_mean, norm.running_var, norm.num_batches_tracked), values, strict=True):
            if buffer is not None:
                buffer.copy_(value)
    return model


class _Pool:
    """Count, mean and sum of squares about it, of all that came in."""

    def __init__(self, dim: int) -> None:
        self.dim, self.batches, self.count = dim, 0, 0
        self.mean, self.squares = torch.zeros(()), torch.zeros(())

    def see(self, _: nn.Module | None, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        """Joins a batch; a forward pre-hook."""
        x = (args[0] if args else kwargs["input"]).detach().movedim(self.dim, 0).flatten(1)
        x = x.to(torch.float32 if x.device.type == "mps" else torch.float64)  # there is no float64 there
        n, total = x.shape[1], self.count + x.shape[1]
        var, mean = torch.var_mean(x, 1, correction=0)
        delta = mean - self.mean.to(mean)
        self.mean = self.mean.to(mean) + delta * (n / total)
        self.squares = self.squares.to(mean) + n * var + delta.square() * (self.count * n / total)
        self.count, self.batches = total, self.batches + 1

    def statistics(self) -> Statistics:
        """Returns mean, unbiased variance and the number of batches."""
        return Statistics(self.mean, self.squares / (self.count - 1), torch.tensor(self.batches))


class _Inside(TorchFunctionMode):
    """Sees what a subclass with a forward of its own hands on to torch's function, by its running mean."""

    def __init__(self, pools: Mapping[int, _Pool]) -> None:
        super().__init__()
        self.pools = pools

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.batch_norm and len(args) > 1 and (pool := self.pools.get(id(args[1]))):
            pool.dim = 1
            pool.see(None, args, {})
        return func(*args, **(kwargs or {}))


def _call(model: nn.Module, batch: Any) -> Any:
    device = next((p.device for p in model.parameters()), None)
    if isinstance(batch, Mapping):
        return model(**{key: v.to(device) if isinstance(v, Tensor) else v for key, v in batch.items()})
    first = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not isinstance(first, Tensor):
        raise TypeError(f"a batch of type {type(batch).__name__} contains no input: pass call=")
    return model(first.to(device))
