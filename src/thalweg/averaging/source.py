"""What an average is of: a model's parameters and buffers as they are now, and whether they still are the same."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.tensors.as_trained import put_back
from thalweg.tensors.private import own_buffers, own_modules, own_parameters, uncompiled, unsaved_buffers


class Source:
    """A model's trainable parameters, or given tensors, under their names.

    Arguments:
        given: a module, which may be wrapped for distributed training or compiled; or an iterable of tensors, named
            by their position, or of ``(name, tensor)`` pairs.

    Raises:
        ValueError: no parameter, two of one name, one on the meta device.
    """

    def __init__(self, given: nn.Module | Iterable[Tensor | tuple[str, Tensor]]) -> None:
        self.model: nn.Module | None = None
        if isinstance(given, nn.Module):
            self.model = _unwrapped(given)
            given = ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)
        self.params = _named(given)
        if not self.params:
            raise ValueError("there is nothing to average: pass a model with parameters that require gradients")
        meta = next((name for name, p in self.params.items() if p.is_meta), None)
        if meta is not None:
            raise ValueError(
                f"{meta} is on the meta device: materialize the model first with model.to_empty(device='cpu')"
            )
        self._look()

    def _look(self) -> None:
        """Remembers the model's structure. Buffers are known by their place: many layers put a new one there."""
        named = {} if self.model is None else dict(self.model.named_modules())
        self._modules = list(named.values())
        self._parts = self._parts_now()
        self._frozen = [
            p for m in self._modules for p in own_parameters(m).values() if p is not None and not p.requires_grad
        ]
        self._places = {
            f"{prefix}.{key}" if prefix else key: (module, key)
            for prefix, module in named.items()
            for key, buffer in own_buffers(module).items()
            if buffer is not None and key not in unsaved_buffers(module)
        }

    def _parts_now(self) -> list[Any]:
        return [part for m in self._modules for part in (*own_parameters(m).values(), *own_modules(m).values())]

    def buffers(self) -> dict[str, Tensor]:
        """Returns the model's persistent buffers as they are now."""
        return {name: own_buffers(module)[key] for name, (module, key) in self._places.items()}

    def state(self) -> dict[str, Any]:
        """Returns what the model's ``state_dict`` names, tied parameters under each name, as the objects themselves."""
        return dict(self.params) if self.model is None else self.model.state_dict(keep_vars=True)

    def check(self) -> None:
        """Raises RuntimeError where the model has other trainable parameters than it had; names the first of them.

        Going through ``named_parameters`` at each step would take as long as the average of a small model.
        """
        if self.model is None or self._unchanged():
            return
        self._reshard()
        now = dict(self.model.named_parameters())
        for name in {**self.params, **now}:
            known, present = self.params.get(name), now.get(name)
            if known is present or (known is None and present is not None and not present.requires_grad):
                continue
            how = "added, or began to require gradients," if known is None else "replaced" if name in now else "removed"
            raise RuntimeError(f"parameter {name!r} was {how} after the average was made: make a new one")
        self._look()

    def _unchanged(self) -> bool:
        parts = self._parts_now()
        same = len(parts) == len(self._parts) and all(map(is_, parts, self._parts))
        return same and not any(p.requires_grad for p in self._frozen)

    def _reshard(self) -> None:
        """Has FSDP2 drop the whole parameters that it keeps after a forward pass: they hold what the shards held."""
        for module in self._modules:
            if callable(reshard := getattr(module, "reshard", None)):
                reshard()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Runs its body and puts parameters, their gradients and buffers back."""
        buffers = [
            (m, key, b, b.detach().clone()) for m in self._modules for key, b in own_buffers(m).items() if b is not None
        ]
        with put_back(list(self.params.values())):
            try:
                yield
            finally:
                self._reshard()
                with torch.no_grad():
                    for module, key, buffer, value in buffers:
                        buffer.copy_(value)
                        own_buffers(module)[key] = buffer


def _unwrapped(model: nn.Module) -> nn.Module:
    """Returns the model within the wrappers that put a prefix before its parameters' names."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif (inner := uncompiled(model)) is not None:  # torch.compile
            model = inner
        else:
            return model


def _named(given: Iterable[Tensor | tuple[str, Tensor]]) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for i, item in enumerate(given):
        name, tensor = (str(i), item) if isinstance(item, Tensor) else item
        if name in named:
            raise ValueError(f"two tensors are named {name!r}: pass pairs whose names differ")
        named[name] = tensor
    return named
