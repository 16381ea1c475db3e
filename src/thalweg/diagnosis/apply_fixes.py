"""Applies fixes, gravest finding first, and undoes those that do not help."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.diagnosis.findings import GRAVITY, Diagnosis, Finding
from thalweg.tensors.private import own_buffers, own_parameters

Weight = tuple[int, ...]


def apply_fixes(model: nn.Module, look: Callable[[], Sequence[Finding]]) -> tuple[Finding, ...]:
    """Applies the fixes that findings carry until none is left to try, and returns the findings that were fixed.

    A fix stays where afterwards there are fewer errors, or as many and fewer warnings, or as many of both and fewer
    notes; else the model is put back.

    Arguments:
        model: is changed in place.
        look: returns the findings on the model as it is.

    >>> net = nn.Linear(1, 1)
    >>> def look():
    ...     ones = [Finding("large", "warning", "", 1.0, "", "zeros_", lambda m: nn.init.zeros_(m.weight))]
    ...     return ones if net.weight.item() else []
    >>> [f.kind for f in apply_fixes(net, look)], net.weight.item()
    (['large'], 0.0)
    """
    fixed: list[Finding] = []
    tried: set[tuple[str, str]] = set()
    found = look()
    while True:
        todo = (f for f in Diagnosis(tuple(found)) if f.apply_fix and (f.kind, f.layer) not in tried)
        finding = next(todo, None)
        if finding is None or finding.apply_fix is None:
            return tuple(fixed)
        tried.add((finding.kind, finding.layer))
        with _taken_back_if(model) as undo:
            try:
                finding.apply_fix(model)
                after = look()
            except ValueError:
                undo.append(True)
                continue
            if _gravity(after) < _gravity(found):
                fixed.append(finding)
                found = after
            else:
                undo.append(True)


def _gravity(found: Sequence[Finding]) -> Weight:
    return tuple(sum(f.severity == severity for f in found) for severity in GRAVITY)


@contextmanager
def _taken_back_if(model: nn.Module) -> Iterator[list[bool]]:
    """Gives a list, and at the end puts parameters and buffers back if it is not empty."""
    kept: list[tuple[Any, str, Tensor, Tensor]] = [
        (own, name, t, t.detach().clone())
        for module in model.modules()
        for own in (own_parameters(module), own_buffers(module))
        for name, t in own.items()
        if t is not None
    ]
    undo: list[bool] = []
    try:
        yield undo
    except BaseException:
        undo.append(True)
        raise
    finally:
        if undo:
            with torch.no_grad():
                for own, name, tensor, value in kept:
                    tensor.copy_(value)
                    own[name] = tensor
