"""Parameters that the model does not know of: layers in a plain list or dictionary, tensors that are no parameters."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.observe import Seen
from thalweg.tensors.private import REGISTRIES

MOST = 0


def unregistered(seen: Seen) -> list[Finding]:
    """Finds what the output hangs on, wants a gradient and is not among the model's parameters.

    An optimizer of ``model.parameters()`` will not train it, ``model.to()`` not move it, ``state_dict()`` not save it.
    What is hidden on purpose, such as a teacher, wants no gradient and is not found.

    >>> import torch
    >>> from thalweg.diagnosis.observe import observe
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layers, self.out = [nn.Linear(3, 3), nn.Linear(3, 3)], nn.Linear(3, 1)
    ...     def forward(self, x):
    ...         return self.out(self.layers[1](self.layers[0](x).relu()).relu())
    >>> found = unregistered(observe(Net(), (torch.randn(9, 3), torch.randn(9, 1)), nn.functional.mse_loss))
    >>> [(f.layer, f.figure, f.fix_code) for f in found]
    [('layers.0', 2.0, 'model.layers = torch.nn.ModuleList(model.layers)'), ('layers.1', 2.0, '')]
    """
    if not seen.leaves:
        return []
    places = {id(p): (owner, place, fix) for owner, place, fix, p in _hidden(seen.model)}
    by_place: dict[str, tuple[int, str]] = {}
    printed: set[str] = set()
    for leaf in seen.leaves:
        _, place, fix = places.get(id(leaf), ("", "", ""))
        count, _ = by_place.get(place, (0, ""))
        by_place[place] = count + 1, fix
    found = []
    for place, (count, fix) in sorted(by_place.items()):
        what = "tensors of shapes " + ", ".join(str(tuple(t.shape)) for t in seen.leaves[:3])
        meaning = f"{place or what} is used but not registered: no optimizer, state_dict or .to() reaches it"
        new = "" if fix in printed else fix
        name = "unregistered parameters"
        found.append(Finding(name, "error", place, float(count), meaning, new, threshold=float(MOST)))
        printed.add(fix)
    return found


def _hidden(model: nn.Module) -> Iterator[tuple[str, str, str, Tensor]]:
    """Yields owner, place, fix and parameter of what modules hold beside their own parts."""
    for owner, module in model.named_modules():
        code = f"model.get_submodule({owner!r})" if owner else "model"
        for name, value in vars(module).items():
            if name in REGISTRIES:
                continue
            kind = {"list": "ModuleList", "tuple": "ModuleList", "dict": "ModuleDict"}.get(type(value).__name__)
            fix = f"{code}.{name} = torch.nn.{kind}({code}.{name})" if kind else ""
            if isinstance(value, Tensor):
                fix = f"{code}.{name} = torch.nn.Parameter({code}.__dict__.pop({name!r}).detach())"
            for place, tensor, plain in _within(value, f"{owner}.{name}" if owner else name):
                if plain and kind:
                    fix = f"{code}.{name} = torch.nn.Parameter{kind.removeprefix('Module')}({code}.{name})"
                yield owner, place, fix, tensor


def _within(value: Any, place: str) -> Iterator[tuple[str, Tensor, bool]]:
    if isinstance(value, Tensor):
        yield place, value, True
    elif isinstance(value, nn.Module):
        for p in value.parameters():
            yield place, p, False
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield from _within(part, f"{place}.{i}")
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _within(part, f"{place}.{key}")
