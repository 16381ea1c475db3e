"""Batches as their users make them: tensors, nested in tuples, lists and dictionaries, or objects with ``to``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def leaves(batch: Any) -> Iterator[Tensor]:
    """Yields the tensors of a batch.

    >>> [tuple(tensor.shape) for tensor in leaves({"x": torch.zeros(2, 3), "y": [torch.zeros(2), "name"]})]
    [(2, 3), (2,)]
    """
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from leaves(value)
    elif isinstance(batch, Sequence) and not isinstance(batch, (str, bytes)):
        for value in batch:
            yield from leaves(value)
    elif isinstance(fields := getattr(batch, "__dict__", None), dict) and callable(getattr(batch, "to", None)):
        yield from leaves(list(fields.values()))


def mapped(function: Callable[[Tensor], Any], batch: Any) -> Any:
    """Returns the batch with the function of each of its tensors; what is neither a tensor nor a container stays."""
    if isinstance(batch, Tensor):
        return function(batch)
    if type(batch) is dict:
        return {key: mapped(function, value) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*[mapped(function, value) for value in batch])
    if type(batch) in (list, tuple):
        return type(batch)(mapped(function, value) for value in batch)
    return batch


def moved(batch: Any, device: torch.device) -> Any:
    """Returns the batch on the device; an object that has a method ``to`` moves itself."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, (dict, list, tuple)) and not callable(getattr(batch, "to", None)):
        if type(batch) in (dict, list, tuple) or hasattr(batch, "_fields"):
            values = batch.values() if isinstance(batch, dict) else batch
            parts = [moved(value, device) for value in values]
            if isinstance(batch, dict):
                return dict(zip(batch, parts, strict=True))
            return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
        return batch
    return batch.to(device) if callable(getattr(batch, "to", None)) else batch


def form(batch: Any) -> str:
    """Returns the form of a batch in words.

    >>> form((torch.zeros(2, 3), torch.zeros(2))), form({"ids": torch.zeros(4, 7)})
    ('shape (2, 3)', 'ids (4, 7)')
    """
    if type(batch) is dict:
        named = [f"{key} {tuple(value.shape)}" for key, value in batch.items() if isinstance(value, Tensor)]
        return ", ".join(named) or "dict"
    first = next(leaves(batch), None)
    return type(batch).__name__ if first is None else f"shape {tuple(first.shape)}"


def size_of(batch: Any) -> int:
    """Returns the number of examples of a batch: what its tensors have as their first dimension, else its length.

    >>> size_of({"ids": torch.zeros(4, 7), "labels": torch.zeros(4)}), size_of(["a", "b"])
    (4, 2)
    """
    if isinstance(count := getattr(batch, "num_graphs", None), int):
        return count
    sizes = [len(tensor) for tensor in leaves(batch) if tensor.dim()]
    if sizes:
        return sizes[0]
    return len(batch) if isinstance(batch, Sequence) else 1


def stacked(batches: Sequence[Any]) -> Any:
    """Returns batches of one form as one whose tensors have a leading dimension for them.

    Raises:
        ValueError: their forms or shapes differ, or they are no tensors in tuples, lists and dictionaries.
    """
    return _joined(batches, torch.stack)


def concatenated(batches: Sequence[Any]) -> Any:
    """Returns batches of one form as one batch with the examples of all.

    Raises:
        ValueError: as :func:`stacked`, but for the number of examples.
    """
    return _joined(batches, torch.cat)


def _joined(batches: Sequence[Any], join: Callable[[list[Tensor]], Tensor]) -> Any:
    first = batches[0]
    if isinstance(first, Tensor):
        try:
            return join(list(batches))
        except (RuntimeError, TypeError) as error:
            shapes = sorted({tuple(tensor.shape) for tensor in batches})
            raise ValueError(f"the batches differ in shape: {', '.join(map(str, shapes[:2]))}") from error
    if type(first) is dict and all(type(b) is dict and b.keys() == first.keys() for b in batches):
        return {key: _joined([b[key] for b in batches], join) for key in first}
    named = hasattr(first, "_fields")
    alike = (type(first) in (list, tuple) or named) and len({(type(b), len(b)) for b in batches}) == 1
    if alike:
        parts = [_joined(values, join) for values in zip(*batches, strict=True)]
        return type(first)(*parts) if named else type(first)(parts)
    raise ValueError(f"a batch holds a {type(first).__name__}: lanes take tensors in tuples, lists and dictionaries")
