"""All that an optimizer's further steps depend on, put away and put back: its state dict, and its own attributes.

What ``state_dict()`` holds is kept whatever its nesting, parameter groups included. Some optimizers keep more: a count
of steps, a random generator, an optimizer inside. So attributes that have changed since the optimizer was made are kept
too, those of optimizers and other objects inside included.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.compare.execution.plain import are_equal, is_plain, leaves, packed, unpacked

STATE = ("state", "param_groups")  # of a state dict as torch's
OWN = "own."  # before the names of attributes
DEEP = 4  # objects inside objects whose attributes are looked at

_TORCHS = frozenset(vars(torch.optim.SGD([torch.zeros(())]))) | {"state", "param_groups"}  # in state_dict(), or hooks


class Remembered:
    """Optimizers as they were made, from which later attributes are told, and settings taken that cannot be packed.

    >>> optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))])
    >>> optimizer.count = 0
    >>> made = Remembered([optimizer])
    >>> optimizer.count += 1
    >>> made.changed()
    [(0, 'count', 1)]
    """

    def __init__(self, optimizers: Sequence[Any]) -> None:
        self.optimizers = list(optimizers)
        self._made = {place: unpacked(packed(value, "")) for place, value in self._found()}
        self._states = [_state_dict(optimizer) for optimizer in self.optimizers]

    def without_settings(self, number: int, state: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a state dict of an optimizer without what cannot be packed and is as it was made."""
        made = self._states[number]
        return {k: v if k in STATE else _without(v, made.get(k)) for k, v in state.items() if not _is_as(v, k, made)}

    def changed(self) -> list[tuple[int, str, Any]]:
        """Returns (number of an optimizer, the names that lead from it, value) of what is no longer as it was made."""
        return [(*at, v) for at, v in self._found() if at not in self._made or self._differs(at, v)]

    def put(self, changed: Sequence[Sequence[Any]]) -> None:
        """Puts back what :meth:`changed` returned, into optimizers that were made alike."""
        for number, path, value in changed:
            *way, name = path.split(".")
            holder = self.optimizers[number]
            for step in way:
                holder = holder[int(step)] if isinstance(holder, (list, tuple)) else getattr(holder, step)
            setattr(holder, name, value)

    def undo(self) -> None:
        """Makes the attributes again what they were."""
        self.put([(*at, self._made[at]) for at, v in self._found() if at in self._made and self._differs(at, v)])

    def _differs(self, at: tuple[int, str], value: Any) -> bool:
        return not are_equal(self._made[at], value)

    def _found(self) -> Iterator[tuple[tuple[int, str], Any]]:
        for number, optimizer in enumerate(self.optimizers):
            params = {id(p) for group in optimizer.param_groups for p in group["params"]}
            for path, value in _walk(optimizer, params, "", DEEP):
                yield (number, path), value


def _walk(holder: Any, params: set[int], path: str, deep: int) -> Iterator[tuple[str, Any]]:
    """Yields attributes that can be packed and hold no parameters, those of objects inside included."""
    for name, value in _attributes(holder).items():
        if is_plain(value):
            if not any(id(tensor) in params for tensor in leaves(value)):
                yield path + name, value
            continue
        inside = enumerate(value) if isinstance(value, (list, tuple)) else [("", value)]
        for place, one in inside if deep else ():
            yield from _walk(one, params, f"{path}{name}{f'.{place}' if place != '' else ''}.", deep - 1)


def _attributes(holder: Any) -> dict[str, Any]:
    """Returns the attributes that an object may change; none of a module, a function, a class or one of ours."""
    if isinstance(holder, (nn.Module, type, ModuleType, FunctionType)) or _is_ours(holder):
        return {}
    return {name: value for name, value in getattr(holder, "__dict__", {}).items() if name not in _TORCHS}


def _is_ours(holder: Any) -> bool:
    return type(holder).__module__.partition(".")[0] == "thalweg"


def inner(optimizers: Sequence[Any]) -> list[Any]:
    """Returns optimizers and, behind each, those that it holds and whose state its state dict leaves out.

    >>> optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))])
    >>> optimizer.base = torch.optim.Adam([nn.Parameter(torch.ones(1))])
    >>> [type(one).__name__ for one in inner([optimizer])]
    ['SGD', 'Adam']
    """
    found: list[Any] = []
    for optimizer in optimizers:
        values = [v for a in _attributes(optimizer).values() for v in (a if isinstance(a, (list, tuple)) else [a])]
        within = [o for o in values if is_optimizer(o) and o.state is not optimizer.state]
        held = any(isinstance(v, Mapping) and "param_groups" in v for v in _state_dict(optimizer).values())
        found += [optimizer, *([] if held else inner(within))]
    return found


def is_optimizer(value: Any) -> bool:
    """Says whether a value has what an optimizer is driven by; some wrappers of torch's optimizers are no subclass."""
    has = all(callable(getattr(value, name, None)) for name in ("step", "state_dict", "load_state_dict"))
    return has and not isinstance(value, type) and isinstance(getattr(value, "param_groups", None), list)


def state_of(
    optimizers: Sequence[Any], most: float = math.inf, remembered: Remembered | None = None
) -> dict[str, Tensor]:
    """Returns all that the optimizers' further steps depend on as flat names to tensors.

    Tensors of more than ``most`` bytes are left out, and attributes where it is not ``remembered`` how they were made.

    Raises:
        NotPlain: ``state_dict()`` holds something else than :func:`~thalweg.compare.execution.plain.packed` takes.
    """
    states = [_plain(one.state_dict()) for one in inner(optimizers)]
    if remembered is not None:
        states = [remembered.without_settings(i, state) for i, state in enumerate(states)]
    held = packed(states, "the optimizer's state_dict()", most)
    if remembered is not None and (changed := remembered.changed()):
        held |= {OWN + name: value for name, value in packed(changed, "the optimizer").items()}
    return held


def put_state(optimizers: Sequence[Any], held: Mapping[str, Tensor], remembered: Remembered | None = None) -> None:
    """Puts back what :func:`state_of` returned, in its own types; where that is nothing, nothing changes."""
    if not held:
        return
    for optimizer, state, again in zip(inner(optimizers), unpacked(held), unpacked(held), strict=True):
        own = optimizer.state_dict()
        whole = {k: v for k, v in own.items() if k not in STATE}
        whole = _over(whole, state)
        if "param_groups" in state:
            groups = zip(own["param_groups"], state["param_groups"], strict=True)
            whole["param_groups"] = [{**made, **group} for made, group in groups]
        optimizer.load_state_dict(whole)
        params = [p for group in optimizer.param_groups for p in group["params"]]
        for key, entries in again.get("state", {}).items():
            if isinstance(key, int) and isinstance(entries, dict):  # torch's loading gives them the parameter's type
                p = params[key]
                optimizer.state[p] = {name: _on(value, p.device) for name, value in entries.items()}
    attributes = {name.removeprefix(OWN): value for name, value in held.items() if name.startswith(OWN)}
    if attributes and remembered is not None:
        remembered.put(unpacked(attributes))


def _state_dict(optimizer: Any) -> dict[str, Any]:
    try:
        return dict(optimizer.state_dict())
    except Exception:  # it is asked again when it is to be stored, and told then
        return {}


def _is_as(value: Any, key: Any, made: Any) -> bool:
    """Says whether a value is a setting that cannot be packed: what stands under that key in what was made."""
    settings = isinstance(made, Mapping) and key in made and not isinstance(value, Mapping) and not is_plain(value)
    return settings and type(made[key]) is type(value) and bool(made[key] == value)


def _without(value: Any, made: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    inside = made if isinstance(made, Mapping) else {}
    return {k: _without(v, inside.get(k)) for k, v in value.items() if not _is_as(v, k, inside)}


def _over(made: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a state with what it lacks of how the optimizer was made."""
    both = {
        k: _over(made[k], v) for k, v in state.items() if isinstance(v, Mapping) and isinstance(made.get(k), Mapping)
    }
    return {**made, **state, **both}


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a state dict without settings of groups that cannot be packed, such as functions: groups have them."""
    if "param_groups" not in state:
        return dict(state)
    groups = [{k: v for k, v in group.items() if is_plain(v)} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def _on(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value if value.dim() == 0 else value.to(device)
    if isinstance(value, dict):
        return {name: _on(one, device) for name, one in value.items()}
    return type(value)(_on(one, device) for one in value) if type(value) in (list, tuple, set) else value
