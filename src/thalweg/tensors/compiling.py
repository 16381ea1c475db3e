"""torch.compile where it can, eager where it cannot, and one word about it; and waiting for an accelerator."""

import shutil
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import torch

from thalweg.tensors.private import accept_vector_instructions, with_own_code

F = TypeVar("F", bound=Callable[..., Any])


@cache
def compiler_missing() -> str | None:
    """Returns why torch.compile cannot make CPU kernels here, or None; warns at the first call that finds so."""
    import os

    if any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++") if name):
        return None
    reason = "no C++ compiler found (g++ or clang++)"
    warnings.warn(f"thalweg runs uncompiled, several times slower: {reason}", RuntimeWarning, stacklevel=3)
    return reason


def compiled(function: F, device: torch.device | None = None, *, unguarded: bool = False, **options: Any) -> F:
    """Returns the function compiled, with a cache of its own; the function itself where there is no compiler.

    ``unguarded`` is the caller's promise that every call will have the types and shapes of the first one, but for
    dimensions marked as dynamic; then nothing is checked before a call on the CPU, which otherwise costs as much as
    a small kernel. Elsewhere the checks stay: kernels there depend on more, as on the width of an index.

    On a CPU the vector instructions are those that processor and compiler know: trying each of them out, as torch does,
    took 8 s on two cores, and a minute on a processor with more of them.
    """
    on_cpu = device is None or device.type == "cpu"
    if on_cpu and compiler_missing():
        return function
    if on_cpu:
        accept_vector_instructions()
    if unguarded and on_cpu:
        options["options"] = {"guard_filter_fn": lambda guards: [False] * len(guards)}
    return cast(F, torch.compile(with_own_code(function), **options))


def wait_for(device: torch.device) -> None:
    """Waits until an accelerator has done all that it was given, so that a clock then tells how long that took."""
    if device.type not in ("cpu", "meta"):
        torch.accelerator.synchronize(device)
