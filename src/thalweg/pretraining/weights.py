"""Weights of another run put into a model: read without running anything, and checked before anything is changed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from thalweg.tensors.files import FileError, read_safely
from thalweg.tensors.parts import check_part, within


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Returns the named tensors of a file, on the CPU.

    Arguments:
        path: a safetensors file; a state dict of ``torch.save``, alone or under ``"model"`` or ``"state_dict"``; or a
            checkpoint of ``thalweg.training``.

    Raises:
        FileError: no such file; one that is cut short, damaged, or holds anything but tensors; it is never unpickled.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (OSError, SafetensorError, json.JSONDecodeError) as error:
            line = str(error).splitlines()[0]
            raise FileError(f"{path} cannot be read as safetensors ({line}): choose another file") from error
    state = read_safely(path)
    for key in ("model", "state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
            break
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(state, Mapping) else {}
    if not tensors:
        raise FileError(f"{path} contains no named tensors: save a model's state_dict()")
    return tensors


@torch.no_grad()
def load_weights(
    model: nn.Module, weights: nn.Module | Mapping[str, Tensor] | str | Path, parts: Sequence[str] = ("",)
) -> list[str]:
    """Copies weights into parts of a model, in place; all of them, or nothing.

    Arguments:
        model: any module.
        weights: of the same names: a module, a state dict, or a file that :func:`read_weights` reads.
        parts: names of modules or parameters; by default the whole model. What the weights have beyond the parts is
            left out.

    Returns:
        The names of what was copied, parameters and buffers.

    Raises:
        ValueError: a part that the model does not have; names that are missing, unexpected or of another shape, all
            of them listed; the model is then as it was.

    >>> source, model = nn.Linear(2, 3), nn.Linear(2, 3)
    >>> load_weights(model, source)
    ['weight', 'bias']
    >>> torch.equal(model.weight, source.weight)
    True
    """
    if isinstance(weights, nn.Module):
        given: Mapping[str, Any] = weights.state_dict()
    else:
        given = weights if isinstance(weights, Mapping) else read_weights(weights)
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    for part in parts:
        check_part(own, part, "weights")
    wanted = [name for name in own if any(within(name, part) for part in parts)]
    missing = [name for name in wanted if name not in given]
    unexpected = [n for n, v in given.items() if isinstance(v, Tensor) and n not in own and _in_any(n, parts)]
    shapes = [
        f"{name} {tuple(given[name].shape)} for {tuple(own[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != own[name].shape
    ]
    wrong = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    if any(wrong.values()):
        lists = "; ".join(f"{what}: {', '.join(names)}" for what, names in wrong.items() if names)
        raise ValueError(f"the weights do not fit the model ({lists}): name parts that are equal in both")
    for name in wanted:
        own[name].copy_(given[name])
    return wanted


def _in_any(name: str, parts: Sequence[str]) -> bool:
    return any(within(name, part) for part in parts)
