"""The form of a tensor: shape, type, device, layout and the memory behind it, which a kernel takes on trust."""

from typing import Any

import torch
from torch import Tensor

_PLAIN = (Tensor, torch.nn.Parameter)


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
        and (torch.is_inference_mode_enabled() or not value.is_inference())
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
    """Says whether several elements share one place in memory, as far as that is quickly told: in expanded tensors.

    >>> overlaps(torch.zeros(1).expand(3)), overlaps(torch.zeros(3))
    (True, False)
    """
    tensor = _here(tensor)
    if torch.compiler.is_compiling() or not in_memory(tensor):
        return False
    return torch._debug_has_internal_overlap(tensor) == 1


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
