"""What a model keeps beside its parameters and buffers: attributes of its modules, such as counters and averages.

Tensors, arrays, numbers, texts, containers of them and generators are saved with a trial; of other objects it is only
told whether they change.
"""

import math
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.tensors.private import unsaved_buffers

OWN = frozenset(vars(nn.Module()))  # of every module
PLAIN = (bool, int, float, str, type(None))
DICTS = {"dict": dict, "ordered": OrderedDict, "counter": Counter}
DEPTH = 3  # of objects within objects that are looked at


class Opaque(Exception):
    """A value that cannot be saved."""


class Attributes:
    """What a fresh model keeps, beside which it is told what has changed."""

    def __init__(self, model: nn.Module) -> None:
        self.fresh = {name: _content(value) for name, value in _named(model)}

    def changed(self, model: nn.Module) -> dict[str, Any]:
        """Returns what the model keeps now and can be saved, as far as it is something else, in plain containers."""
        return {name: value for name, (value, is_saved) in self._different(model).items() if is_saved}

    def unsaved(self, model: nn.Module) -> list[str]:
        """Returns the names of what has changed and cannot be saved."""
        return [name for name, (_, is_saved) in self._different(model).items() if not is_saved]

    def _different(self, model: nn.Module) -> dict[str, tuple[Any, bool]]:
        now = {name: _content(value) for name, value in _named(model)}
        missing = (None, False)
        return {name: value for name, value in now.items() if not _equal(self.fresh.get(name, missing)[0], value[0])}


def put_attributes(model: nn.Module, saved: Mapping[str, Any]) -> None:
    """Puts back what :meth:`Attributes.changed` returned."""
    modules, device = dict(model.named_modules()), next((p.device for p in model.parameters()), None)
    for name, value in saved.items():
        place, _, key = name.rpartition(".")
        module = modules[place]
        setattr(module, key, _decoded(value, device, getattr(module, key, None)))


def _named(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        unsaved = [(key, getattr(module, key)) for key in sorted(unsaved_buffers(module))]
        for key, value in [*vars(module).items(), *unsaved]:
            if key not in OWN:
                yield f"{name}.{key}", value


def _content(value: Any) -> tuple[Any, bool]:
    """Returns what a value holds, and whether it can be saved."""
    try:
        return _encoded(value), True
    except Opaque:
        return _looked_at(value, DEPTH), False


def _encoded(value: Any) -> Any:
    """Returns a value in lists, tuples, and dictionaries that say what they stand for.

    Raises:
        Opaque: it cannot be saved.
    """
    kind = type(value)
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        on_device = value.device.type != "cpu"
        return {"is": "tensor", "on device": on_device, "tensor": value.detach().clone()}
    if kind in PLAIN:
        return value
    if kind in (list, tuple):
        return kind(map(_encoded, value))
    if kind in DICTS.values() and all(type(key) in PLAIN for key in value):
        word = next(word for word, made in DICTS.items() if made is kind)
        return {"is": word, "items": [[key, _encoded(one)] for key, one in value.items()]}
    if kind is deque:
        return {"is": "deque", "most": value.maxlen, "items": [_encoded(one) for one in value]}
    if kind is set and all(type(one) in PLAIN for one in value):
        return {"is": "set", "items": sorted(value, key=repr)}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biuf":
        return {"is": "array" if kind is np.ndarray else "scalar", "tensor": torch.from_numpy(np.array(value))}
    if isinstance(value, torch.Generator):
        return {"is": "generator", "state": value.get_state()}
    if isinstance(value, np.random.Generator):
        return {"is": "generator", "state": _encoded(value.bit_generator.state)}
    if kind is random.Random:
        return {"is": "generator", "state": value.getstate()}
    raise Opaque


def _decoded(value: Any, device: torch.device | None, existing: Any = None) -> Any:
    """Returns the value of which this is the content; what a generator's is goes into the one that is there."""
    if type(value) in (list, tuple):
        return type(value)(_decoded(one, device) for one in value)
    if not isinstance(value, dict):
        return value
    kind = value["is"]
    if kind == "tensor":
        return value["tensor"].to(device if value["on device"] else "cpu")
    if kind in DICTS:
        return DICTS[kind]({key: _decoded(one, device) for key, one in value["items"]})
    if kind == "deque":
        return deque((_decoded(one, device) for one in value["items"]), value["most"])
    if kind == "set":
        return set(value["items"])
    if kind in ("array", "scalar"):
        array = value["tensor"].numpy()
        return array if kind == "array" else array[()]
    _set_generator(existing, value["state"])
    return existing


def _set_generator(existing: Any, state: Any) -> None:
    if isinstance(existing, torch.Generator):
        existing.set_state(state)
    elif isinstance(existing, np.random.Generator):
        existing.bit_generator.state = _decoded(state, None)
    elif isinstance(existing, random.Random):
        existing.setstate(state)


def _looked_at(value: Any, depth: int) -> Any:
    """Returns what tells whether an object has changed, as far as that can be seen."""
    kind = type(value)
    if isinstance(value, (nn.Module, nn.Parameter)) or not depth:  # modules are seen where they are registered
        return kind.__qualname__
    if kind in (list, tuple):
        return [_at(one, depth) for one in value]
    if isinstance(value, dict):
        return [[repr(key), _at(one, depth)] for key, one in value.items()]
    if kind.__module__.partition(".")[0] in ("torch", "thalweg", "builtins"):
        return kind.__qualname__
    return [kind.__qualname__, *([key, _at(one, depth)] for key, one in getattr(value, "__dict__", {}).items())]


def _at(value: Any, depth: int) -> Any:
    try:
        return _encoded(value)
    except Opaque:
        return _looked_at(value, depth - 1)


def _equal(one: Any, two: Any) -> bool:
    if type(one) is not type(two):
        return False
    if isinstance(one, Tensor):
        alike = one.shape == two.shape and one.dtype == two.dtype and one.device == two.device
        return alike and torch.allclose(one, two, 0, 0, equal_nan=True)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(_equal, one, two))
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(_equal(one[key], two[key]) for key in one)
    return bool(one == two) or (isinstance(one, float) and math.isnan(one) and math.isnan(two))
