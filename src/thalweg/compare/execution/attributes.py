"""What a model keeps beside its parameters and buffers: attributes of its modules, such as counters and averages.

Tensors, arrays, numbers, texts, containers of them and generators are saved with a trial; of other objects it is only
told whether they change.
"""

import random
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from thalweg.compare.execution.plain import DICTIONARIES, are_equal, is_plain, packed, unpacked
from thalweg.tensors.private import unsaved_buffers

OWN = frozenset(vars(nn.Module()))  # of every module
SEQUENCES = (list, tuple, set, deque)
DEPTH = 3  # of objects within objects that are looked at


class Attributes:
    """What a fresh model keeps, beside which it is told what has changed."""

    def __init__(self, model: nn.Module) -> None:
        self.fresh = {name: unpacked(packed(_seen(value), "")) for name, value in _named(model)}

    def changed(self, model: nn.Module) -> dict[str, Any]:
        """Returns what the model keeps now and can be saved, as far as it is something else."""
        return {name: value for name, value in self._different(model) if _is_kept(value)}

    def unsaved(self, model: nn.Module) -> list[str]:
        """Returns the names of what has changed and cannot be saved."""
        return [name for name, value in self._different(model) if not _is_kept(value)]

    def _different(self, model: nn.Module) -> Iterator[tuple[str, Any]]:
        for name, value in _named(model):
            if not are_equal(self.fresh.get(name), _seen(value)):
                yield name, value


def put_attributes(model: nn.Module, saved: Mapping[str, Any]) -> None:
    """Puts back what :meth:`Attributes.changed` returned; a generator that is there takes the state."""
    modules = dict(model.named_modules())
    for name, value in saved.items():
        place, _, key = name.rpartition(".")
        existing = getattr(modules[place], key, None)
        if isinstance(value, torch.Generator) and isinstance(existing, torch.Generator):
            existing.set_state(value.get_state())
        elif isinstance(value, np.random.Generator) and isinstance(existing, np.random.Generator):
            existing.bit_generator.state = value.bit_generator.state
        elif isinstance(value, random.Random) and isinstance(existing, random.Random):
            existing.setstate(value.getstate())
        else:
            setattr(modules[place], key, value)


def _named(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        unsaved = [(key, getattr(module, key)) for key in sorted(unsaved_buffers(module))]
        for key, value in [*vars(module).items(), *unsaved]:
            if key not in OWN:
                yield f"{name}.{key}", value


def _is_kept(value: Any) -> bool:
    """Says whether a value can be saved and comes back as what it is: no parameter, no container of another class."""
    if type(value) in DICTIONARIES.values():
        return all(_is_kept(key) and _is_kept(one) for key, one in value.items())
    if type(value) in SEQUENCES:
        return all(map(_is_kept, value))
    return is_plain(value) and not isinstance(value, (nn.Parameter, Mapping, *SEQUENCES, frozenset))


def _seen(value: Any, depth: int = DEPTH) -> Any:
    """Returns the value, or of an object what tells whether it has changed, as far as that can be seen."""
    return value if _is_kept(value) else _looked_at(value, depth)


def _looked_at(value: Any, depth: int) -> Any:
    """Returns what tells whether an object has changed, as far as that can be seen."""
    kind = type(value)
    if isinstance(value, (nn.Module, nn.Parameter)) or not depth:  # modules are seen where they are registered
        return kind.__qualname__
    if kind in (list, tuple):
        return [_seen(one, depth - 1) for one in value]
    if isinstance(value, dict):
        return [[repr(key), _seen(one, depth - 1)] for key, one in value.items()]
    if kind.__module__.partition(".")[0] in ("torch", "thalweg", "builtins"):
        return kind.__qualname__
    return [kind.__qualname__, *([key, _seen(one, depth - 1)] for key, one in getattr(value, "__dict__", {}).items())]
