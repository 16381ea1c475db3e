"""Several batches where one will not do: those that the user gives, or one cut up."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Batch = tuple[tuple[Any, ...], Any]


def as_batch(pair: Any) -> Batch:
    """Returns ``(inputs, target)`` with the inputs as a tuple.

    Raises:
        ValueError: it is no pair.
    """
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
        raise ValueError("the batch is not a pair: pass (inputs, target), with several inputs as a tuple")
    return pair[0] if isinstance(pair[0], tuple) else (pair[0],), pair[1]


def examples_in(batch: Batch) -> int:
    """Returns the first size of the target, or where it has none of the first input that has one; else 1."""
    inputs, target = batch
    first = next((t for t in (target, *inputs) if isinstance(t, Tensor) and t.dim()), None)
    return 1 if first is None else len(first)


def cut(batch: Batch, parts: int) -> list[Batch]:
    """Returns a batch cut into parts of one size; what is left over is left out.

    Examples are on the first dimension, or where that has another size on the second. Nothing comes back where an
    input or the target shows no examples, or there are fewer than two parts with two examples each.

    >>> [tuple(x.shape) for (x,), _ in cut(((torch.randn(9, 3),), torch.randn(9)), 4)]
    [(2, 3), (2, 3), (2, 3), (2, 3)]
    """
    examples = examples_in(batch)
    size = examples // max(parts, 1)
    tensors = [t for t in (*batch[0], batch[1]) if isinstance(t, Tensor) and t.dim()]
    if size < 2 or parts < 2 or not all(examples in t.shape[:2] for t in tensors):
        return []

    def part(value: Any, i: int) -> Any:
        if not isinstance(value, Tensor) or not value.dim():
            return value
        return value.narrow(0 if len(value) == examples else 1, i * size, size)

    return [(tuple(part(t, i) for t in batch[0]), part(batch[1], i)) for i in range(parts)]


def gradient(model: nn.Module, batch: Batch, loss: Callable[[Any, Any], Tensor], params: Sequence[Tensor]) -> Tensor:
    """Returns the gradient of the loss on a batch as one vector ``(n,)`` in float32 or wider; zeros where none comes.

    >>> net = nn.Linear(2, 1, bias=False)
    >>> batch = ((torch.tensor([[1.0, 2.0]]),), None)
    >>> gradient(net, batch, lambda y, _: y.sum(), list(net.parameters())).tolist()
    [1.0, 2.0]
    """
    found = torch.autograd.grad(loss(model(*batch[0]), batch[1]).reshape(()), params, allow_unused=True)
    pairs = zip(found, params, strict=True)
    dense = [torch.zeros_like(p) if g is None else g.to_dense() if g.is_sparse else g for g, p in pairs]
    return torch.cat([g.detach().flatten().to(torch.promote_types(g.dtype, torch.float32)) for g in dense])
