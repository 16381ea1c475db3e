"""Whether a call of a module is known to compute what the class of torch's that it is of computes, and nothing else."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from thalweg.tensors.private import (
    backward_hooks,
    forward_hooks,
    forward_pre_hooks,
    global_forward_hooks,
    own_parameters,
)

# What a subclass or an instance may have of its own while a call still gives the same.
_NAMES = (
    "__init__ __module__ __qualname__ __doc__ __annotations__ __dict__ __weakref__ __constants__ __parameters__ "
    "__orig_bases__ __static_attributes__ __firstlineno__ __annotate_func__ __repr__ extra_repr _get_name "
    "reset_parameters _compiled_call_impl train eval __getstate__ __setstate__ __deepcopy__ __reduce_ex__"
)
HARMLESS = frozenset(_NAMES.split())


def obstacle(module: nn.Module, kinds: tuple[type[nn.Module], ...], hooks: bool = False) -> str | None:
    """Returns why a call of the module may do something else than one of its kind; None where it cannot.

    A subclass that changes nothing of what a call goes through is of its kind: what decides is not the type alone.

    Arguments:
        module: any module.
        kinds: classes whose forward is known, as is that of torch's and thalweg's own subclasses of them; such as
            :data:`thalweg.tensors.layers.WEIGHTED`.
        hooks: whether hooks are taken as part of it, where they stay on it.

    >>> class Fused(nn.Linear):
    ...     def forward(self, x):
    ...         return super().forward(x).relu()
    >>> obstacle(nn.Linear(1, 1), (nn.Linear,)), obstacle(Fused(1, 1), (nn.Linear,))
    (None, 'this Fused has a forward of its own')
    """
    if not isinstance(module, kinds):
        return f"a {type(module).__name__} is not known"
    if any(p is not None and is_lazy(p) for p in own_parameters(module).values()):
        return "it has not run yet"
    if parametrize.is_parametrized(module):
        return f"its {next(iter(module.parametrizations))} is parametrized"  # type: ignore[arg-type]
    found = {
        "a forward pre-hook, as weight_norm, spectral_norm and prune of the old kind are": forward_pre_hooks(module),
        "a forward hook": forward_hooks(module),
        "a backward hook": backward_hooks(module),
        "a forward hook of all modules": global_forward_hooks(),
    }
    if not hooks and (what := next((what for what, some in found.items() if some), None)):
        return f"it has {what}"
    if why := overridden(module, kinds):
        return why
    loose = (name for name in ("weight", "bias") if name not in own_parameters(module) and hasattr(module, name))
    return None if hooks else next((f"its {name} is no parameter of its own" for name in loose), None)


def overridden(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> str | None:
    """Returns what of a call the module does in a way of its own, which its kind would do in another; None if nothing.

    >>> relu = nn.ReLU()
    >>> relu.forward = abs
    >>> overridden(relu, (nn.ReLU,))
    'this ReLU has a forward of its own'
    """
    known = _known(module, kinds)
    own = {name for cls in type(module).__mro__ if cls not in known.__mro__ for name in vars(cls)}
    asked = set(dir(known)).union(*(getattr(cls, "__annotations__", ()) for cls in known.__mro__))
    changed = ((own & asked) | (set(vars(module)) & set(dir(known)))) - HARMLESS
    changed -= set(getattr(module, "parametrizations", ()))
    return f"this {type(module).__name__} has a {max(changed)} of its own" if changed else None


def _known(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> type:
    """Returns the first class of the module that is torch's or thalweg's, or one of the kinds itself."""
    for cls in type(module).__mro__:
        if issubclass(cls, kinds) and (
            cls in kinds or cls.__module__.startswith(("torch.nn.modules.", "thalweg.normalization."))
        ):
            return cls
    return object


def put_in_place(model: nn.Module, others: Mapping[Any, nn.Module]) -> None:
    """Puts others in the place of modules, under each of the names that they have in the model.

    >>> norm = nn.BatchNorm1d(2)
    >>> model = nn.Sequential(norm, nn.Sequential(norm))
    >>> put_in_place(model, {norm: nn.Identity()})
    >>> model[0] is model[1][0]
    True
    """
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if name and module in others:
            model.set_submodule(name, others[module])


def listed(left: Mapping[str, str]) -> str:
    """Returns names of modules by the reason why each was left, for the end of a message.

    >>> listed({"a": "it has a forward hook", "b": "it does not run", "c": "it does not run"})
    "; 'a': it has a forward hook; 'b', 'c': it does not run"
    """
    by_reason = defaultdict(list)
    for name, why in left.items():
        by_reason[why].append(repr(name))
    return "".join(f"; {', '.join(names)}: {why}" for why, names in by_reason.items())
