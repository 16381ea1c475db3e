"""Nested values as flat names to tensors, which a store holds, and back: nothing is pickled.

The tree of what is packed stands under ``tree`` as JSON, in which a tensor is a number.
"""

import json
import math
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

DICTIONARIES: Mapping[str, Any] = {"dict": dict, "ordered": OrderedDict, "counter": Counter}


class NotPlain(ValueError):
    """Names the type of a value that is not packed."""


def packed(value: Any, what: str, most: float = math.inf) -> dict[str, Tensor]:
    """Returns a nested value as flat names to tensors.

    It may hold tensors, NumPy arrays, numbers, texts, random generators, and lists, tuples, sets, deques and
    dictionaries of them. Tensors of more than ``most`` bytes in dictionaries are left out.

    Raises:
        NotPlain: there is something else in it; ``what`` names it.

    >>> unpacked(packed({"k": 3, "Q": [torch.eye(2), None]}, "it"))["Q"][0].shape
    torch.Size([2, 2])
    """
    held: list[Tensor] = []
    try:
        tree = _packed(value, held, most)
    except NotPlain as error:
        raise NotPlain(
            f"{what} holds a {error}, so that no trial of it can go on from a rung: keep tensors, numbers and texts "
            "there"
        ) from error
    text = torch.frombuffer(bytearray(json.dumps(tree).encode()), dtype=torch.uint8)
    return {"tree": text, **{str(i): tensor.detach() for i, tensor in enumerate(held)}}


def unpacked(held: Mapping[str, Tensor], device: torch.device | None = None) -> Any:
    """Returns what :func:`packed` was given, in tensors of its own; ``device`` takes those that were not on the CPU."""
    return _unpacked(json.loads(bytes(held["tree"].tolist())), held, device)


def leaves(value: Any) -> list[Tensor]:
    """Returns the tensors in a value that can be packed."""
    held: list[Tensor] = []
    _packed(value, held, math.inf)
    return held


def is_plain(value: Any) -> bool:
    """Says whether a value can be packed."""
    try:
        _packed(value, [], math.inf)
    except NotPlain:
        return False
    return True


def are_equal(a: Any, b: Any) -> bool:
    """Says whether two values that can be packed are the same, bit for bit.

    >>> are_equal({"d": torch.ones(2)}, {"d": torch.ones(2)}), are_equal([1], [1.5])
    (True, False)
    """
    one, two = list[Tensor](), list[Tensor]()
    if json.dumps(_packed(a, one, math.inf)) != json.dumps(_packed(b, two, math.inf)):
        return False
    return all(
        s.dtype == t.dtype and s.shape == t.shape and _same(s.cpu(), t.cpu()) for s, t in zip(one, two, strict=True)
    )


def _same(s: Tensor, t: Tensor) -> bool:
    """Says whether two tensors are the same, NaN and NaN included."""
    numbers = s.is_floating_point() or s.is_complex()
    return torch.equal(s, t) or (numbers and torch.allclose(s, t, 0, 0, equal_nan=True))


def _packed(value: Any, held: list[Tensor], most: float) -> Any:
    if isinstance(value, Tensor):
        held.append(value)
        return {"tensor" if value.device.type == "cpu" else "on device": len(held) - 1}
    if isinstance(value, Mapping):
        if any(isinstance(k, Tensor) for k in value):  # which nothing that is read again is equal to
            raise NotPlain("dictionary by tensors")
        kept = [(k, v) for k, v in value.items() if _bytes(v) <= most]
        kind = next((kind for kind, made in DICTIONARIES.items() if type(value) is made), "dict")
        return {kind: [[_packed(k, held, most), _packed(v, held, most)] for k, v in kept]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    for kind, takes, parts in _KINDS:
        if isinstance(value, takes):
            try:
                return {kind: [_packed(part, held, most) for part in parts(value)]}
            except TypeError:  # an array of objects, say
                break
    raise NotPlain(type(value).__name__)


def _unpacked(tree: Any, held: Mapping[str, Tensor], device: torch.device | None) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, inner),) = tree.items()
    if kind in ("tensor", "on device"):
        tensor = held[str(inner)].clone()
        return tensor if kind == "tensor" else tensor.to(device)
    if kind in DICTIONARIES:
        return DICTIONARIES[kind]({_unpacked(k, held, device): _unpacked(v, held, device) for k, v in inner})
    return _MADE[kind]([_unpacked(v, held, device) for v in inner])


def _array(parts: list[Any]) -> Any:
    found = parts[0].numpy().astype(parts[1])
    return found if parts[2] else found[()]


def _python(parts: list[Any]) -> random.Random:
    made = random.Random()
    made.setstate((parts[0], tuple(parts[1].tolist()), parts[2]))
    return made


def _torchs(parts: list[Any]) -> torch.Generator:
    made = torch.Generator(parts[0])
    made.set_state(parts[1])
    return made


def _numpys(parts: list[Any]) -> np.random.Generator:
    bits = getattr(np.random, parts[0])()
    bits.state = parts[1]
    return np.random.Generator(bits)


_KINDS: list[tuple[str, Any, Any]] = [  # the name, the types, and what makes parts of a value
    ("deque", deque, lambda v: [v.maxlen, *v]),
    ("tuple", tuple, list),
    ("list", list, list),
    ("set", (set, frozenset), lambda v: sorted(v, key=repr)),
    ("array", (np.ndarray, np.generic), lambda v: [torch.from_numpy(np.array(v)), v.dtype.str, v.ndim > 0]),
    ("python", random.Random, lambda v: [(s := v.getstate())[0], torch.tensor(s[1]), s[2]]),
    ("torch", torch.Generator, lambda v: [str(v.device), v.get_state()]),
    ("numpy", np.random.Generator, lambda v: [type(v.bit_generator).__name__, v.bit_generator.state]),
    ("complex", complex, lambda v: [v.real, v.imag]),
    ("dtype", torch.dtype, lambda v: [str(v).removeprefix("torch.")]),
    ("device", torch.device, lambda v: [str(v)]),
]
_MADE: dict[str, Any] = {
    "deque": lambda parts: deque(parts[1:], parts[0]),
    "tuple": tuple,
    "list": list,
    "set": set,
    "array": _array,
    "python": _python,
    "torch": _torchs,
    "numpy": _numpys,
    "complex": lambda parts: complex(*parts),
    "dtype": lambda parts: getattr(torch, parts[0]),
    "device": lambda parts: torch.device(parts[0]),
}


def _bytes(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0
