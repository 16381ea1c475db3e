"""Batches as they come: tensors in tuples, lists and dictionaries."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


def mapped(batch: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Returns the batch with the function of each of its tensors; whatever else it holds stays as it is.

    >>> import torch
    >>> mapped({"x": torch.ones(2), "names": ("a", "b")}, torch.Tensor.sum)
    {'x': tensor(2.), 'names': ('a', 'b')}
    """
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {key: mapped(value, function) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(mapped(value, function) for value in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(mapped(value, function) for value in batch)
    return batch


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """Yields the batch's tensors.

    >>> import torch
    >>> [tuple(t.shape) for t in tensors_of([torch.ones(2), {"y": torch.ones(2, 3)}])]
    [(2,), (2, 3)]
    """
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, (Mapping, tuple, list)):
        for value in batch.values() if isinstance(batch, Mapping) else batch:
            yield from tensors_of(value)
