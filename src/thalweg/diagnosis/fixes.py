"""Fixes that several checks share: lines of code to show that do the same; how they are chosen, applied and undone."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from thalweg.diagnosis.findings import Choice, Diagnosis, Finding, severity_counts
from thalweg.diagnosis.forward_recorder import Layer
from thalweg.diagnosis.observe import Seen
from thalweg.initialization.data_driven import scale_by_data
from thalweg.initialization.model import initialize
from thalweg.tensors.layers import NORMS
from thalweg.tensors.private import own_buffers, own_parameters


def rescale(seen: Seen, layer: Layer, center: bool = False) -> tuple[Choice, ...]:
    """Scales every layer by the batch, which keeps the direction of its weights; else draws anew what is needed.

    >>> from torch import ones
    >>> from thalweg.diagnosis.observe import observe
    >>> seen = observe(nn.Linear(1, 1), (ones(2, 1), ones(2, 1)), nn.functional.mse_loss)
    >>> for choice in rescale(seen, seen.layers[""]):
    ...     print(choice.fix_code)
    thalweg.initialization.scale_by_data(model, inputs)
    thalweg.initialization.initialize(model)
    thalweg.initialization.initialize(model, "lsuv", batch=inputs)
    """
    inputs = seen.inputs
    call = f"thalweg.initialization.scale_by_data(model, inputs{', center=True' if center else ''})"
    choices = [Choice(call, lambda model: scale_by_data(model, inputs, center=center), True)]
    norms = [n for n, m in seen.model.named_modules() if isinstance(m, NORMS) and _is_off(m)]
    if norms:
        reset = f"[model.get_submodule(name).reset_parameters() for name in {norms!r}]"
        choices.append(Choice(reset, partial(_reset, norms), False))
    if layer.name:
        choices += redraw(layer, safe=False)
    choices.append(Choice("thalweg.initialization.initialize(model)", lambda m: _draw(m, None), False))
    lsuv = 'thalweg.initialization.initialize(model, "lsuv", batch=inputs)'
    return (*choices, Choice(lsuv, lambda model: _draw(model, "lsuv", inputs), False))


def redraw(layer: Layer, safe: bool) -> list[Choice]:
    """Draws one layer anew; safe where its units are all alike or 0, so that nothing was learned in it.

    >>> from torch import ones
    >>> print(redraw(Layer("2", nn.Linear(1, 1), ones(1)), safe=True)[0].fix_code)
    thalweg.initialization.initialize(model.get_submodule('2'), "he")
    """
    name = layer.name
    place = f"model.get_submodule({name!r})"
    call = f'thalweg.initialization.initialize({place}, "he")'
    choices = [Choice(call, lambda model: _draw(model.get_submodule(name), "he"), safe)]
    own = [n for n, p in layer.module.named_parameters(recurse=False) if p.dim() == 2]
    if len(own) == 1:  # a module of someone's own, which initialize does not know
        std = float(f"{max(layer.module.get_parameter(own[0]).shape) ** -0.5:.2g}")
        line = f"torch.nn.init.normal_({place}.{own[0]}, 0.0, {std})"
        choices.append(Choice(line, partial(_normal, name, own[0], std), safe))
    return choices


def chosen(model: nn.Module, found: Sequence[Finding], look: Callable[[nn.Module], Sequence[Finding]]) -> list[Finding]:
    """Returns findings with the first of their choices that takes them away on a copy of the model, if any does.

    A choice that brings more severe findings of other kinds is taken only where no other helps.
    """
    return [_chosen(model, f, found, look) if f.choices else f for f in found]


def _chosen(
    model: nn.Module, finding: Finding, found: Sequence[Finding], look: Callable[[nn.Module], Sequence[Finding]]
) -> Finding:
    helpful = []
    for choice in finding.choices:
        try:
            fixed = copy.deepcopy(model)
        except Exception:  # a model may hold what cannot be copied: then the first is shown, untried
            helpful = [finding.choices[0]]
            break
        try:
            choice.apply_fix(fixed)
            after = look(fixed)
        except (ValueError, RuntimeError):
            continue
        if any((f.kind, f.layer) == (finding.kind, finding.layer) for f in after):
            continue
        helpful.append(choice)
        if severity_counts(after) < severity_counts(found):
            return _with(finding, choice)
    return _with(finding, helpful[0]) if helpful else replace(finding, choices=())


def _with(finding: Finding, choice: Choice) -> Finding:
    return replace(finding, fix_code=choice.fix_code, apply_fix=choice.apply_fix if choice.safe else None, choices=())


def _draw(module: nn.Module, scheme: str | None, batch: object = None) -> None:
    initialize(module, scheme, Generator().manual_seed(0), batch=batch)


def _normal(name: str, parameter: str, std: float, model: nn.Module) -> None:
    with torch.no_grad():
        model.get_submodule(name).get_parameter(parameter).normal_(0.0, std, generator=Generator().manual_seed(0))


def _is_off(norm: nn.Module) -> bool:
    """Returns whether a normalization gives nothing, or has a shift far from where it starts."""
    scale, shift = getattr(norm, "weight", None), getattr(norm, "bias", None)
    return (scale is not None and not scale.detach().any()) or (
        shift is not None and float(shift.detach().abs().max()) > 5
    )


def _reset(names: Sequence[str], model: nn.Module) -> None:
    for name in names:
        model.get_submodule(name).reset_parameters()  # type: ignore[operator]


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
            if severity_counts(after) < severity_counts(found):
                fixed.append(finding)
                found = after
            else:
                undo.append(True)


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
