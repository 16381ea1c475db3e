"""What the settings of a group may be: the same in a constructor, an added group, a loaded state, and at a step."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from torch import Tensor

from thalweg.optim.decay import check_decay

ENGINES = ("auto", "foreach", "compiled", "triton")

# Key of a group -> (torch's words for it, largest value); none may be negative.
_RANGES = {
    "lr": ("learning rate", math.inf),
    "eps": ("epsilon value", math.inf),
    "weight_decay": ("weight_decay value", math.inf),
    "momentum": ("momentum value", math.inf),
    "alpha": ("alpha value", math.inf),
    "rho": ("rho value", 1.0),
    "lr_decay": ("lr_decay value", math.inf),
    "initial_accumulator_value": ("initial_accumulator_value value", math.inf),
    "momentum_decay": ("momentum_decay value", math.inf),
}
_ONE_RULE = ("nesterov", "amsgrad", "bias_correction", "decoupled_weight_decay", "centered", "eps_inside_sqrt")
_FLAGS = ("maximize", "skip_nonfinite", "capturable", "differentiable", *_ONE_RULE)
_WHOLE = ("average", "norm_in_backward")  # of the optimizer, not of a group


def is_number(value: Any) -> bool:
    """Says whether a setting is a real number, or a tensor of one.

    >>> import torch
    >>> is_number(0.1), is_number(torch.tensor([0.1])), is_number("0.1"), is_number(None)
    (True, True, False, False)
    """
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex()
    return isinstance(value, Real)


def check_settings(group: Mapping[str, Any]) -> None:
    """Raises ValueError for the first setting of a group, as far as it has them, that no step can be taken with."""
    lr = group.get("lr")
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    for key, (words, most) in _RANGES.items():
        if key in group and not (is_number(group[key]) and 0 <= group[key] <= most):
            raise ValueError(f"Invalid {words}: {group[key]}")
    if not (is_number(share := group.get("dampening", 0.0)) and math.isfinite(share)):
        raise ValueError(f"Invalid dampening value: {share}")
    _check_betas(group)
    if group.get("nesterov") and (group.get("momentum", 1) <= 0 or group.get("dampening", 0) != 0):
        raise ValueError("Nesterov momentum requires a momentum and zero dampening")
    for key in _FLAGS:
        if key in group and group[key] not in (True, False):
            raise ValueError(f"Invalid {key} value: {group[key]!r}: give True or False")
    check_options(group)


def check_options(group: Mapping[str, Any]) -> None:
    """Raises ValueError for an engine, a decay or a clip_norm that there is not; quick enough for each step."""
    engine, decay, clip_norm = group.get("engine", "auto"), group.get("decay", "all"), group.get("clip_norm")
    if engine not in ENGINES:
        raise ValueError(f"Invalid engine: {engine!r}: choose auto, foreach, compiled or triton")
    check_decay(decay)
    if clip_norm is not None and not (is_number(clip_norm) and clip_norm > 0):
        raise ValueError(f"Invalid clip_norm value: {clip_norm}: give a number above 0, or None")


def check_added(group: Mapping[str, Any]) -> None:
    """Raises ValueError for what a group of its own cannot have."""
    for key in _WHOLE:
        if key in group:
            raise ValueError(f"{key} is of the whole optimizer: give it to the constructor, not to a group")


def _check_betas(group: Mapping[str, Any]) -> None:
    if "betas" in group and not (isinstance(group["betas"], (tuple, list)) and len(group["betas"]) == 2):
        raise ValueError(f"Invalid betas: {group['betas']!r}: give two numbers")
    betas = group.get("betas", ())
    if len({isinstance(beta, Tensor) for beta in betas}) > 1:
        raise ValueError("betas must be either both floats or both Tensors")
    named = [(f"parameter at index {i}", beta) for i, beta in enumerate(betas)]
    for words, beta in [*named, *((name, group[name]) for name in ("beta1", "beta2") if name in group)]:
        if not (is_number(beta) and 0.0 <= beta < 1.0):
            raise ValueError(f"Invalid beta {words}: {beta}")
