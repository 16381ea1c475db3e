"""The names of torch's that it does not publish, and that this package stands on: here alone.

Each has beside it what would replace it. ``tests/tensors/test_private.py`` holds each to what it is used for, and so
says which one a new version of torch has changed.
"""

import os
import subprocess
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._dynamo.guards import TensorGuards as TensorGuards  # none: compare shape, stride, type and device of each
from torch.fx.experimental import _config
from torch.nn.modules import batchnorm, conv, dropout, instancenorm, pooling
from torch.nn.modules import module as _modules
from torch.nn.utils import parametrizations
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks
from torch.utils._pytree import tree_flatten as tree_flatten  # torch.utils.pytree, where a version has it; optree
from torch.utils._pytree import tree_map as tree_map
from torch.utils._pytree import tree_unflatten as tree_unflatten

# In place of each: the tuple of torch's public classes of that kind, which other people's subclasses may not be of.
BatchNormBase = batchnorm._BatchNorm
NormBase = batchnorm._NormBase
InstanceNormBase = instancenorm._InstanceNorm
ConvolutionBase = conv._ConvNd
DropoutBase = dropout._DropoutNd
POOLINGS = (pooling._MaxPoolNd, pooling._AvgPoolNd, pooling._AdaptiveAvgPoolNd, pooling._AdaptiveMaxPoolNd)
REGISTRIES = ("_parameters", "_buffers", "_modules")  # of a module; see own_parameters and its like

# In place of each: a loop over the tensors, which takes a call an operation and a tensor.
foreach_add_, foreach_copy_, foreach_lerp_ = torch._foreach_add_, torch._foreach_copy_, torch._foreach_lerp_
# In place of each: torch.optim's class of that name with fused=True, which holds state of its own.
fused_sgd_, fused_adagrad_ = torch._fused_sgd_, torch._fused_adagrad_
fused_adam_, fused_adamw_ = torch._fused_adam_, torch._fused_adamw_
assert_in_graph = torch._assert  # torch.compiler's and fx's tracers keep it; else: raise, which they cannot trace


def foreach(name: str) -> Callable[..., Any] | None:
    """Returns torch's kernel over lists of tensors for an operation; None where there is none. Else: a loop."""
    return getattr(torch, f"_foreach_{name}", None)


def write_count(tensor: Tensor) -> int:
    """Returns how many times the tensor was written to; always 0 in inference mode. Else: compare with a copy."""
    return 0 if tensor.is_inference() else tensor._version


def base_of(tensor: Tensor) -> Tensor:
    """Returns the tensor of which another is a view, or itself. Else: compare the addresses of storages."""
    return tensor if tensor._base is None else tensor._base


def overlaps_itself(tensor: Tensor) -> bool:
    """Says whether elements share memory, as far as sizes and strides tell at once. Else: a stride of 0 is one case."""
    return torch._debug_has_internal_overlap(tensor) == 1


def mark_dynamic(tensor: Tensor, dim: int) -> None:
    """Has torch.compile take a size as a variable. Else: ``torch.compile(dynamic=True)``, of all sizes."""
    torch._dynamo.mark_dynamic(tensor, dim)


def sizes_apart() -> AbstractContextManager[None]:
    """Has torch.compile take sizes that happen to be equal as different variables. Else: it compiles more often."""
    patched: AbstractContextManager[None] = _config.patch(use_duck_shape=False)  # type: ignore[attr-defined]
    return patched


def with_own_code(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function with a copy of its code object, by which torch.compile keys its cache and its limits.

    Closures of one ``def`` would share both. Else: one ``def`` each, or a cache for each call of torch.compile.
    """
    assert isinstance(function, FunctionType)
    code, names = function.__code__.replace(), function.__globals__
    own = FunctionType(code, names, function.__name__, function.__defaults__, function.__closure__)
    own.__kwdefaults__ = function.__kwdefaults__
    return own


def step_is_observed(optimizer: torch.optim.Optimizer) -> bool:
    """Says whether a profiler or a hook observes the steps. Else: each step goes through torch's own wrapper."""
    return bool(
        optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or _global_optimizer_pre_hooks
        or _global_optimizer_post_hooks
        or torch.autograd._profiler_enabled()  # type: ignore[attr-defined]
    )


@cache
def accept_vector_instructions() -> None:
    """Has torch.compile take the vector instructions that processor and compiler know. Else: torch tries each of them.

    It compiles a library for each, with all of its headers, and loads it in another process.
    """
    from torch._inductor import cpp_builder, cpu_vec_isa

    compiler = cpp_builder.get_cpp_compiler()

    def is_known(isa: cpu_vec_isa.VecISA, code: str) -> bool:
        words = [compiler, *isa.build_arch_flags().split(), "-fsyntax-only", "-x", "c++", os.devnull]
        return subprocess.run(words, capture_output=True).returncode == 0

    tried = cpu_vec_isa.VecISA.check_build
    cpu_vec_isa.VecISA.check_build = is_known  # type: ignore[method-assign, assignment]
    try:
        cpu_vec_isa.valid_vec_isa_list()  # which keeps what it finds
    finally:
        cpu_vec_isa.VecISA.check_build = tried  # type: ignore[method-assign]


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """Returns the module's own parameters, to be read or replaced. Else: ``named_parameters``, which skips None."""
    return module._parameters


def own_buffers(module: nn.Module) -> dict[str, Any]:
    """Returns the module's own buffers, to be read or replaced. Else: ``named_buffers``, which skips None."""
    return module._buffers


def own_modules(module: nn.Module) -> dict[str, nn.Module | None]:
    """Returns the module's own children. Else: ``named_children``, which skips None and a child's second name."""
    return module._modules


def unsaved_buffers(module: nn.Module) -> set[str]:
    """Returns the names of the module's own buffers that ``state_dict`` leaves out. Else: ask it, of a whole model."""
    return module._non_persistent_buffers_set


def forward_hooks(module: nn.Module) -> Mapping[int, Callable[..., Any]]:
    """Returns the module's forward hooks. Else: there is no way to ask."""
    return module._forward_hooks


def forward_pre_hooks(module: nn.Module) -> Mapping[int, Callable[..., Any]]:
    """Returns the module's forward pre-hooks. Else: there is no way to ask."""
    return module._forward_pre_hooks


def backward_hooks(module: nn.Module) -> Mapping[int, Callable[..., Any]]:
    """Returns the module's backward hooks and pre-hooks. Else: there is no way to ask."""
    return {**module._backward_hooks, **module._backward_pre_hooks}


def hook_tables(module: nn.Module) -> list[MutableMapping[int, Any]]:
    """Returns what holds the module's hooks of calls, to be changed. Else: keep each hook's handle, and remove it."""
    before = [module._forward_pre_hooks, module._backward_pre_hooks]
    return [*before, module._forward_hooks, module._backward_hooks]


def global_forward_hooks() -> Mapping[int, Callable[..., Any]]:
    """Returns the forward hooks and pre-hooks of all modules. Else: there is no way to ask."""
    return {**_modules._global_forward_hooks, **_modules._global_forward_pre_hooks}


def own_reset(module: nn.Module) -> Callable[[], None] | None:
    """Returns what draws the module's parameters anew; nn.MultiheadAttention's is private. Else: draw each part."""
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    return reset if callable(reset) else None


def pruned_name(hook: Any) -> str:
    """Returns the name of the tensor that a hook computes; pruning's is private. Else: what ends in ``_orig``."""
    return str(getattr(hook, "name", getattr(hook, "_tensor_name", "")))


def uncompiled(model: nn.Module) -> nn.Module | None:
    """Returns the model that ``torch.compile(model)`` wraps; None of any other. Else: ``model.compile()`` in place."""
    return model._modules.get("_orig_mod")


def restart_spectral_norm(part: nn.Module, weight: Tensor, iterations: int) -> None:
    """Has a spectral norm estimate its weight's norm anew. Else: ``parametrizations.spectral_norm`` on a new layer."""
    if isinstance(part, parametrizations._SpectralNorm) and hasattr(part, "_u"):
        for vector in (part._u, part._v):
            vector.copy_(nn.functional.normalize(torch.randn_like(vector), dim=0))
        part._power_method(part._reshape_weight_to_matrix(weight), iterations)
