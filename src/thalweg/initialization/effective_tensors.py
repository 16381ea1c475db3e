"""The tensors that a module computes with, each with the parameters that it comes from: itself, or those of a norm."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from thalweg.tensors.private import forward_pre_hooks, own_parameters, pruned_name, restart_spectral_norm

POWER_ITERATIONS = 15  # of a spectral norm that begins anew, as torch's own does


class EffectiveTensor(NamedTuple):
    """A tensor to be filled in place, and the parameters that its value is written to.

    Attributes:
        value: the parameter itself; a tensor of its form where the module computes it from others.
        params: the parameters, and buffers, in which it is kept.
        write_back: writes the value to the parameters; returns whether that was possible.
    """

    value: Tensor
    params: Sequence[Tensor]
    write_back: Callable[[], bool]


def effective_tensors(module: Any) -> dict[str, EffectiveTensor]:
    """Returns a module's own tensors by name: under weight_norm and its like the weight itself, not its parts.

    >>> net = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
    >>> {name: len(tensor.params) for name, tensor in effective_tensors(net).items()}
    {'bias': 1, 'weight': 2}
    """
    found = {name: EffectiveTensor(p, [p], lambda: True) for name, p in own_parameters(module).items() if p is not None}
    for name in getattr(module, "parametrizations", {}):
        found[name] = _parametrized(module, name)
    for hook in forward_pre_hooks(module).values():
        name = pruned_name(hook)
        if isinstance(hook, WeightNorm):
            found[name] = _normed(module, hook, found.pop(f"{name}_g").value, found.pop(f"{name}_v").value)
        elif isinstance(hook, (SpectralNorm, prune.BasePruningMethod)):
            found[name] = _original(module, hook, name, found.pop(f"{name}_orig").value)
    return found


def _parametrized(module: Any, name: str) -> EffectiveTensor:
    kept = module.parametrizations[name]
    value = torch.empty_like(getattr(module, name))

    def write_back() -> bool:
        try:
            setattr(module, name, value)
        except (NotImplementedError, ValueError, RuntimeError):
            return False  # its way back is not known
        for part in kept:
            restart_spectral_norm(part, value, POWER_ITERATIONS)
        return True

    return EffectiveTensor(value, [*kept.parameters(), *kept.buffers()], write_back)


def _normed(module: Any, hook: Any, size: Tensor, direction: Tensor) -> EffectiveTensor:
    value = torch.empty_like(direction)

    def write_back() -> bool:
        size.copy_(torch.norm_except_dim(value, 2, hook.dim))
        direction.copy_(value)
        setattr(module, hook.name, hook.compute_weight(module))
        return True

    return EffectiveTensor(value, [size, direction], write_back)


def _original(module: Any, hook: Any, name: str, original: Tensor) -> EffectiveTensor:
    pruned = isinstance(hook, prune.BasePruningMethod)
    vectors = [] if pruned else [getattr(module, f"{name}_u"), getattr(module, f"{name}_v")]

    def write_back() -> bool:
        for vector in vectors:
            vector.copy_(nn.functional.normalize(torch.randn_like(vector), dim=0))
        if pruned:
            setattr(module, name, hook.apply_mask(module))
            return True
        hook.n_power_iterations, usual = POWER_ITERATIONS, hook.n_power_iterations
        setattr(module, name, hook.compute_weight(module, do_power_iteration=True))
        hook.n_power_iterations = usual
        return True

    return EffectiveTensor(original, [original, *vectors], write_back)
