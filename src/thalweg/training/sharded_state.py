"""States with distributed tensors in one file: each whole, with what it takes to divide it anew among any ranks."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

MARK = "thalweg sharded"  # key of a tensor that was sharded, beside that of its dimension


def whole(state: Any, keep: bool) -> Any:
    """Returns the state with each distributed tensor gathered, one after another; all of its ranks have to call.

    Arguments:
        state: nested in dictionaries, lists and tuples.
        keep: whether this rank keeps what was gathered, on the CPU; otherwise None stands there.
    """

    def gathered(value: Any) -> Any:
        full = value.full_tensor()
        return {MARK: full.detach().cpu(), "dim": _dim(value)} if keep else None

    return _replaced(state, lambda v: hasattr(v, "device_mesh"), gathered)


def divided(state: Any, model: nn.Module) -> Any:
    """Returns the state that :func:`whole` gave, its tensors divided as the model's are; plain where those are.

    >>> import torch
    >>> divided({"w": {MARK: torch.ones(2), "dim": 0}, "step": 3}, nn.Linear(1, 1))
    {'w': tensor([1., 1.]), 'step': 3}
    """
    like: Any = next((p for p in model.parameters() if hasattr(p, "device_mesh")), None)

    def placed(value: Any) -> Tensor:
        full, dim = value[MARK], value["dim"]
        if like is None:
            return full
        from torch.distributed.tensor import Replicate, Shard, distribute_tensor

        placements = [Shard(dim) if p.is_shard() and dim is not None else Replicate() for p in like.placements]
        return distribute_tensor(full.to(like.device), like.device_mesh, placements)

    return _replaced(state, _was_sharded, placed)


def joined(state: Any) -> Any:
    """Returns the state that :func:`whole` gave with plain tensors."""
    return _replaced(state, _was_sharded, lambda v: v[MARK])


def is_sharded(model: nn.Module) -> bool:
    """Returns whether the model's parameters are distributed, as by ``fully_shard``."""
    reshard(model)
    return any(hasattr(p, "device_mesh") for p in model.parameters())


def reshard(model: nn.Module) -> None:
    """Has FSDP2 drop the whole parameters that it keeps after a forward pass, and stand for a model's own meanwhile."""
    for module in model.modules():
        if callable(drop := getattr(module, "reshard", None)):
            drop()


def _replaced(state: Any, found: Callable[[Any], bool], make: Callable[[Any], Any]) -> Any:
    if found(state):
        return make(state)
    if isinstance(state, Mapping):
        return {key: _replaced(value, found, make) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_replaced(value, found, make) for value in state)
    return state


def _was_sharded(value: Any) -> bool:
    return isinstance(value, Mapping) and MARK in value


def _dim(tensor: Any) -> int | None:
    """Returns the dimension along which a tensor is divided."""
    return next((p.dim for p in tensor.placements if p.is_shard()), None)
