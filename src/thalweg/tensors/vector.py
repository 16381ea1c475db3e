"""A list of tensors seen as one real vector, and back: the only place where second-order methods change the form.

Of distributed tensors the vector has the shards that are here.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor


def to_vector(
    tensors: Sequence[Tensor], dtype: torch.dtype | None = None, device: torch.device | None = None
) -> Tensor:
    """Returns the tensors' values one after another as a new vector ``(n,)``; a complex number counts as two.

    Arguments:
        tensors: any shapes, types and devices.
        dtype, device: of the vector; by default the widest type of the tensors, and the first one's device.

    >>> to_vector([torch.ones(2, 2), torch.zeros(1)]).tolist()
    [1.0, 1.0, 1.0, 1.0, 0.0]
    """
    dtype = dtype or working_dtype(tensors)
    device = device or tensors[0].device
    return torch.cat([real(local(t)).reshape(-1).to(device, dtype) for t in tensors])


def from_vector(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Returns the vector's parts in the shapes, types and devices of ``like``; views where nothing has to change.

    >>> [tuple(t.shape) for t in from_vector(torch.zeros(5), [torch.ones(2, 2), torch.zeros(1)])]
    [(2, 2), (1,)]
    """
    forms = [real(local(t)) for t in like]
    parts = vector.split_with_sizes([f.numel() for f in forms])
    shaped = [part.view(f.shape).to(f.device, f.dtype) for part, f in zip(parts, forms, strict=True)]
    return [torch.view_as_complex(s) if t.is_complex() else s for s, t in zip(shaped, like, strict=True)]


def over_ranks(part: Tensor, whole: Tensor) -> Tensor:
    """Returns the sum over all ranks of what each worked out of its shard of a tensor; of any other, the part itself.

    >>> over_ranks(torch.tensor(3.0), torch.ones(3))
    tensor(3.)
    """
    if not hasattr(whole, "to_local"):
        return part
    from torch.distributed.tensor import DTensor, Partial, Replicate

    assert isinstance(whole, DTensor)
    placements = [Partial() if placement.is_shard() else Replicate() for placement in whole.placements]
    return DTensor.from_local(part, whole.device_mesh, placements).full_tensor()


def spread(block: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Returns the block's parts along its last dimension, a vector's, in the shapes of ``like``, distributed as those.

    They are views, of the block's type; complex tensors have them as pairs of real numbers.

    >>> [tuple(t.shape) for t in spread(torch.zeros(3, 5), [torch.ones(2, 2), torch.zeros(1)])]
    [(3, 2, 2), (3, 1)]
    """
    lead, forms = block.shape[:-1], [real(local(t)) for t in like]
    parts = block.split_with_sizes([f.numel() for f in forms], -1)
    return [_placed(part.view(*lead, *f.shape), t) for part, f, t in zip(parts, forms, like, strict=True)]


def gathered(parts: Sequence[Tensor], like: Sequence[Tensor]) -> Tensor:
    """Returns the block of which :func:`spread` gives these parts.

    >>> gathered([torch.ones(3, 2, 2), torch.zeros(3, 1)], [torch.ones(2, 2), torch.zeros(1)]).shape
    torch.Size([3, 5])
    """
    flat = []
    for part, form in zip(map(local, parts), [real(local(t)) for t in like], strict=True):
        flat.append(part.reshape(*part.shape[: part.dim() - form.dim()], form.numel()))
    return torch.cat(flat, -1)


def _placed(part: Tensor, like: Any) -> Tensor:
    """Returns this rank's part of a block as a distributed tensor, if ``like`` is one."""
    if not hasattr(like, "device_mesh"):
        return part
    form = (*like.shape, 2) if like.is_complex() else tuple(like.shape)
    shape = torch.Size((*part.shape[: part.dim() - len(form)], *form))
    ahead = len(shape) - len(form)
    placements = [type(p)(p.dim + ahead) if p.is_shard() else p for p in like.placements]
    strides = torch.empty(shape, device="meta").stride()
    made = type(like.data).from_local(part, like.device_mesh, placements, run_check=False, shape=shape, stride=strides)
    return cast(Tensor, made)


def local(tensor: Any, like: Any = None) -> Tensor:
    """Returns the shard of a distributed tensor that is here, divided as ``like`` is; a plain one as it is.

    >>> local(torch.ones(2)).tolist()
    [1.0, 1.0]
    """
    if hasattr(tensor, "to_local"):
        if like is not None and tensor.placements != like.placements:
            tensor = tensor.redistribute(placements=like.placements)
        tensor = tensor.to_local()
    return cast(Tensor, tensor)


def working_dtype(tensors: Sequence[Tensor]) -> torch.dtype:
    """Returns the widest real type among the tensors, at least float32."""
    widest = torch.float32
    for tensor in tensors:
        widest = torch.promote_types(widest, real(tensor).dtype)
    return widest


def real(tensor: Tensor) -> Tensor:
    """Returns the tensor, a complex one as pairs of real numbers: a view, but of a lazy conjugate a copy."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
