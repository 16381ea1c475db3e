"""Batches as their users make them: tensors, nested in tuples, lists and dictionaries, or objects with ``to``."""

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import is_dataclass
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
    elif is_dataclass(batch) or callable(getattr(batch, "to", None)):
        yield from leaves(list(getattr(batch, "__dict__", {}).values()))


def mapped(function: Callable[[Tensor], Any], batch: Any) -> Any:
    """Returns the batch with the function of each of its tensors; what is neither a tensor nor a container stays."""
    if isinstance(batch, Tensor):
        return function(batch)
    return _rebuilt(lambda value: mapped(function, value), batch) if _is_plain(batch) else batch


def own(batch: Any) -> Any:
    """Returns the batch in containers of its own, which may be changed; the tensors are the same."""
    if isinstance(batch, Tensor):
        return batch
    if _is_plain(batch):
        return _rebuilt(own, batch)
    try:
        return copy.copy(batch)
    except Exception:  # what cannot be copied stays as it is
        return batch


def moved(batch: Any, device: torch.device) -> Any:
    """Returns the batch on the device; an object that has a method ``to`` moves itself."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if callable(getattr(batch, "to", None)):
        after = batch.to(device)
        return batch if after is None else after
    if _is_plain(batch):
        return _rebuilt(lambda value: moved(value, device), batch)
    if isinstance(batch, MutableMapping):
        batch = copy.copy(batch)
        for key, value in batch.items():
            batch[key] = moved(value, device)
    elif is_dataclass(batch) and not isinstance(batch, type):
        batch = copy.copy(batch)
        for key, value in getattr(batch, "__dict__", {}).items():
            object.__setattr__(batch, key, moved(value, device))
    return batch


def _is_plain(batch: Any) -> bool:
    return type(batch) in (dict, list, tuple) or (isinstance(batch, tuple) and hasattr(batch, "_fields"))


def _rebuilt(function: Callable[[Any], Any], batch: Any) -> Any:
    """Returns a plain container with the function of each of its values."""
    if isinstance(batch, dict):
        return {key: function(value) for key, value in batch.items()}
    values = [function(value) for value in batch]
    return type(batch)(*values) if hasattr(batch, "_fields") else type(batch)(values)


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
    >>> size_of(([torch.zeros(3, 8, 9), torch.zeros(3, 5, 5)], [{"boxes": torch.zeros(1, 4)}, {}]))
    2
    """
    if isinstance(count := getattr(batch, "num_graphs", None), int):
        return count
    sizes = [len(tensor) for tensor in leaves(batch) if tensor.dim()]
    lists = {len(part) for part in batch if isinstance(part, list)} if isinstance(batch, (list, tuple)) else set()
    if len(set(sizes)) > 1 and len(lists) == 1:  # such as images of any size beside their boxes
        return lists.pop()
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


def same(one: Any, two: Any) -> bool:
    """Says whether two batches, examples or the like are equal, as far as they can be compared."""
    if isinstance(one, (tuple, list)) and isinstance(two, (tuple, list)):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    try:
        a, b = torch.as_tensor(one), torch.as_tensor(two)
    except Exception:  # what is no tensor is refused by name when it is stacked
        return True
    return a.shape == b.shape and torch.allclose(a, b, 0, 0, equal_nan=True)
