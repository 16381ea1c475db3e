"""To which parameters weight decay is applied: to all, as torch has it, or to weights alone.

Biases and the scales of normalizations are few and do not make a model flexible, so that decaying them gains nothing
and may cost fit: Deep Learning, §7.1.1, leaves biases out.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from thalweg.tensors.private import NormBase

Decay = Literal["all", "weights"]
DECAYS: tuple[Decay, ...] = ("all", "weights")

_NORMALIZATIONS = (NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def check_decay(decay: object) -> None:
    """Raises ValueError unless it is one of :data:`DECAYS`."""
    if decay not in DECAYS:
        raise ValueError(f"Invalid decay: {decay!r}: choose {' or '.join(DECAYS)}")


def is_weight(p: Tensor) -> bool:
    """Says whether weight decay is for the parameter under ``decay="weights"``: it has two dimensions or more."""
    return p.dim() > 1


def decayed(group: Mapping[str, Any], p: Tensor) -> bool:
    """Says whether weight decay is for this parameter; where there is none, all are alike."""
    decay = group["weight_decay"]
    return group["decay"] == "all" or is_weight(p) or (isinstance(decay, (int, float)) and decay == 0)


def no_decay_groups(
    params: nn.Module | Iterable[Any], weight_decay: float | None = None, *, also: tuple[type[nn.Module], ...] = ()
) -> list[dict[str, Any]]:
    """Returns parameter groups with which any optimizer decays only weights.

    The first group contains the parameters that are decayed. The second, with ``weight_decay=0.0``, contains the
    biases, the scales of normalizations and all other parameters of at most one dimension. An empty group is omitted. A
    tied parameter is listed once, and is not decayed if any of its uses is not. Frozen parameters stay in their groups,
    so that they can be unfrozen; an optimizer ignores parameters without a gradient. Embeddings are decayed, unless
    ``also`` names them.

    Arguments:
        params: the model, or anything that an optimizer accepts: parameters, ``(name, parameter)`` pairs, whose names
            are kept, or groups, each of which is divided and keeps its other settings. If the model is given,
            normalizations and biases of more than one dimension are recognized too, by their modules and names.
        weight_decay: weight decay of the first group; None keeps the optimizer's or the group's own.
        also: classes of modules, such as ``nn.Embedding``, whose parameters are not decayed either; requires the model.

    Raises:
        TypeError: ``params`` is a set, whose order changes from run to run, or a single tensor.
        ValueError: a parameter of a lazy module has no shape yet, or ``also`` is given without the model.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1, bias=False))
    >>> groups = no_decay_groups(model, 0.1)
    >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
    [(2, 0.1), (3, 0.0)]
    >>> optimizer = torch.optim.AdamW(no_decay_groups(model.named_parameters()), lr=1e-3)
    >>> optimizer.param_groups[1]["param_names"]
    ['0.bias', '1.weight', '1.bias']

    Source: Deep Learning, §7.1.1.
    """
    if isinstance(params, nn.Module):
        return _divided({"params": list(params.parameters())}, weight_decay, _spared_in(params, also))
    if also:
        raise ValueError(
            "also= names classes of modules: pass the model, because parameters alone do not show their modules"
        )
    if isinstance(params, (set, Tensor)):
        raise TypeError(f"params is a {type(params).__name__}: pass the model, or a list of its parameters")
    given = list(params)
    groups = given if given and all(isinstance(one, dict) for one in given) else [{"params": given}]
    return [part for group in groups for part in _divided(group, weight_decay, frozenset())]


def _divided(group: Mapping[str, Any], weight_decay: float | None, spared: frozenset[int]) -> list[dict[str, Any]]:
    """Returns the group's weights and the rest as groups; ``spared`` holds ids of parameters known to be spared."""
    given = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
    names = group.get("param_names")
    if names is None and any(isinstance(one, tuple) for one in given):
        names, given = [name for name, _ in given], [p for _, p in given]
    found: dict[int, tuple[str | None, Tensor]] = {}
    for name, p in zip(names or [None] * len(given), given, strict=True):
        if is_lazy(p):
            raise ValueError(f"{name or 'a parameter'} has no shape yet: run a batch through the lazy module first")
        found.setdefault(id(p), (name, p))
    others = {key: value for key, value in group.items() if key not in ("params", "param_names")}
    own = {} if weight_decay is None else {"weight_decay": weight_decay}
    parts = []
    for weights, settings in ((True, others | own), (False, others | {"weight_decay": 0.0})):
        members = [(name, p) for key, (name, p) in found.items() if _is_decayed(name, p, key in spared) == weights]
        if members:
            named = {"param_names": [name for name, _ in members]} if names is not None else {}
            parts.append({"params": [p for _, p in members], **named, **settings})
    return parts


def _is_decayed(name: str | None, p: Tensor, spared: bool) -> bool:
    return is_weight(p) and not spared and not _names_a_bias(name or "")


def _names_a_bias(name: str) -> bool:
    return "bias" in name.rpartition(".")[2]


def _spared_in(model: nn.Module, also: tuple[type[nn.Module], ...]) -> frozenset[int]:
    """Returns the ids of the parameters that the model shows to be biases, or scales of normalizations."""
    return frozenset(
        id(p)
        for module in model.modules()
        for name, p in module.named_parameters(recurse=False)
        if _names_a_bias(name) or isinstance(module, (*_NORMALIZATIONS, *also))
    )
