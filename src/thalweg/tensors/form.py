"""The form of a tensor: shape, type, device, layout and the memory behind it, which a kernel takes on trust."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from thalweg.tensors.private import TensorGuards, overlaps_itself

_PLAIN = (Tensor, torch.nn.Parameter)


class KnownForms:
    """The forms of some tensors, as they were when they were checked; one call says whether they still are.

    >>> known, held = KnownForms(), [torch.zeros(2), torch.zeros(3)]
    >>> known.note(held)
    >>> known.same(held), known.same([torch.ones(2), torch.ones(3)]), known.same([torch.ones(2), torch.ones(4)])
    (True, True, False)
    >>> _ = held[0].untyped_storage().resize_(0)
    >>> known.same(held)
    False
    """

    def __init__(self) -> None:
        self._guards: TensorGuards | None = None
        self._places: list[tuple[int, int]] = []  # where each begins in its storage, and bytes up to its end there

    def __reduce__(self) -> tuple[type["KnownForms"], tuple[()]]:
        return KnownForms, ()  # a copy knows nothing yet

    def same(self, tensors: Sequence[Any]) -> bool:
        """Says whether there are as many tensors of the same forms, in storages that are as large as they need."""
        if not self.same_but_for_storages(tensors):
            return False
        for t, (begin, end) in zip(tensors, self._places, strict=True):
            if t.untyped_storage().nbytes() < end or t.storage_offset() > begin:
                return False
        return True

    def same_but_for_storages(self, tensors: Sequence[Any]) -> bool:
        """Says the same of the forms alone, for who looks at the tensors' addresses instead."""
        if self._guards is None or len(tensors) != len(self._places) or torch.compiler.is_compiling():
            return False
        return bool(self._guards.check(*tensors))

    def note(self, tensors: Sequence[Any]) -> None:
        """Remembers the forms, where all are of plain tensors, no two of which are one."""
        self._guards = None
        if tensors and not torch.compiler.is_compiling() and all(in_memory(t) for t in tensors):
            self._guards = TensorGuards(*tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None)
            begins = [t.storage_offset() for t in tensors]
            self._places = [(b, b * t.itemsize + extent(t)) for t, b in zip(tensors, begins, strict=True)]


def fits(value: Any, like: Tensor, dtype: torch.dtype) -> bool:
    """Says whether the value is a dense tensor of that type, in memory of its own, with ``like``'s shape and device.

    >>> like = torch.zeros(2, 3)
    >>> fits(torch.ones(2, 3), like, torch.float32), fits(torch.ones(3, 2), like, torch.float32)
    (True, False)
    """
    return (
        isinstance(value, Tensor)
        and value.shape == like.shape
        and value.dtype == dtype
        and value.device == like.device
        and value.layout == torch.strided
        and _placed(value) == _placed(like)
        and is_allocated(value)
        and not overlaps(value)
        and (torch.compiler.is_compiling() or torch.is_inference_mode_enabled() or not value.is_inference())
    )


def in_memory(value: Any) -> bool:
    """Says whether the value is a plain dense tensor, whose storage can be looked at.

    >>> in_memory(torch.zeros(3)), in_memory(torch.zeros(3).to_sparse()), in_memory(3.0)
    (True, False, False)
    """
    return type(value) in _PLAIN and value.layout == torch.strided and value.device.type != "xla"


def is_allocated(tensor: Tensor) -> bool:
    """Says whether the tensor's storage is as large as its shape and strides need; True of what has none to look at.

    >>> empty = torch.ones(3)
    >>> _ = empty.untyped_storage().resize_(0)
    >>> is_allocated(empty), is_allocated(torch.ones(3))
    (False, True)
    """
    tensor = _here(tensor)
    if torch.compiler.is_compiling() or not in_memory(tensor):
        return True
    return tensor.untyped_storage().nbytes() >= tensor.storage_offset() * tensor.itemsize + extent(tensor)


def extent(tensor: Tensor) -> int:
    """Returns how many bytes there are from a dense tensor's first element to the end of its last one.

    >>> extent(torch.zeros(2, 3)), extent(torch.zeros(2, 3)[:, :1]), extent(torch.zeros(0))
    (24, 16, 0)
    """
    if not tensor.numel():
        return 0
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return (1 + sum((size - 1) * stride for size, stride in steps)) * tensor.itemsize


def overlaps(tensor: Tensor) -> bool:
    """Says whether several elements share one place in memory, as far as is quickly determined: in expanded tensors.

    >>> overlaps(torch.zeros(1).expand(3)), overlaps(torch.zeros(3))
    (True, False)
    """
    tensor = _here(tensor)
    if torch.compiler.is_compiling() or not in_memory(tensor):
        return False
    return overlaps_itself(tensor)


def require(name: str, value: Any, shape: Sequence[int]) -> None:
    """Raises ValueError where a value is not a dense tensor of real numbers of that shape, with its memory behind it.

    >>> require("gram", torch.eye(2), (3, 3))
    Traceback (most recent call last):
    ValueError: gram is float32 (2, 2) on cpu: pass a dense real tensor (3, 3)
    """
    dense = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_complex()
    if not dense or value.shape != tuple(shape) or not is_allocated(value):
        raise ValueError(f"{name} is {form(value)}: pass a dense real tensor {tuple(shape)}")


def taken(held: Mapping[str, Any], name: str, like: Tensor) -> Tensor:
    """Returns what is held under a name in ``like``'s type and device, itself where it has those.

    Raises:
        ValueError: it has not ``like``'s shape, or is no dense tensor of real numbers.

    >>> taken({"w": torch.ones(2)}, "w", torch.zeros(2, dtype=torch.float64))
    tensor([1., 1.], dtype=torch.float64)
    """
    require(f"{name!r} of what is taken up again", held[name], like.shape)
    return held[name].to(like)


def form(value: Any) -> str:
    """Returns the form in words.

    >>> form(torch.zeros(2, 3)), form(torch.zeros(1).expand(3)), form(None)
    ('float32 (2, 3) on cpu', 'float32 (3,) on cpu with overlapping elements', 'None, not a tensor')
    """
    if not isinstance(value, Tensor):
        return f"{value!r:.40}, not a tensor"
    words = f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)} on {value.device}"
    if value.layout != torch.strided:
        return f"{words}, {str(value.layout).removeprefix('torch.')}"
    if placed := _placed(value):
        words += f", distributed as {placed[1]}"
    if not is_allocated(value):
        held, needed = _here(value).untyped_storage().nbytes(), extent(_here(value))
        return f"{words} with {held} bytes of memory where it needs {needed}"
    if overlaps(value):
        return f"{words} with overlapping elements"
    return f"{words}, made in inference mode" if value.is_inference() else words


def _here(tensor: Any) -> Any:
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _placed(tensor: Any) -> Any:
    """Returns how a distributed tensor lies over its mesh; None of a plain one."""
    return (tensor.device_mesh, tensor.placements) if hasattr(tensor, "device_mesh") else None
