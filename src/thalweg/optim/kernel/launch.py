"""Launches of kernels: with which scalars, and by the compiled kernel's own launcher from the second one on."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from thalweg.optim.entries import Group
from thalweg.rules.rule import Rule, scalars_of_step
from thalweg.tensors.private import write_count

WARPS = 4

_compiled: dict[tuple[Any, ...], Any] = {}


@dataclass
class Launch:
    """One launch of a kernel, which steps some parameters of a group.

    Attributes:
        members: the parameters.
        decays: whether weight decay is for them.
        dtypes: as in ``Form``.
        chunks: which program steps what, from the table.
        counts: the step count and the rule's scalar state of all, each a tensor of which the parameters' own are views;
            none where they are counted on the device.
        versions: of the counts; with others something has been written into them from outside.
        values: the numbers that the counts hold.
        counted: as in ``Form``, where the coefficients are worked out on the device; None where on the host.
        kernels: what launches, by whether all is aligned.
    """

    group: Group
    rule: Rule
    members: Sequence[Tensor]
    decays: bool
    dtypes: tuple[torch.dtype | None, ...]
    chunks: tuple[Tensor, Tensor]
    counts: dict[str, Tensor]
    values: list[float]
    counted: tuple[tuple[str, torch.dtype], ...] | None
    kernels: dict[bool, Callable[[Sequence[Any]], None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._arrays = {name: count.numpy() for name, count in self.counts.items()}  # written to at a tenth of the cost
        self._versions = [write_count(count) for count in self.counts.values()]

    @property
    def untouched(self) -> bool:
        """Whether nobody else has written into the counts."""
        return [write_count(count) for count in self.counts.values()] == self._versions

    def scalars(self, hyper: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the kernel's scalars for the next step, which is counted."""
        given = hyper if self.decays else {**hyper, "weight_decay": 0}
        c: dict[str, Any] = {}
        if self.counts:
            t, *scalars = self.values
            carried = dict(zip(self.rule.scalar_state, scalars, strict=True))
            if self.counted is None or carried:
                c, new = scalars_of_step(self.rule, given, t + 1, carried)
                for name, value in new.items():
                    self._arrays[name].fill(value)
            self._arrays["step"].fill(t + 1)
            self.values = [t + 1, *(self._arrays[name][0].item() for name in carried)]  # as rounded there
            if self.counted is None:
                return c
            given = {**given, **carried, "t": t + 1}
        decay = given["weight_decay"]
        none = isinstance(decay, (int, float)) and decay == 0
        return {name: value for name, value in given.items() if not (none and name == "weight_decay")}


def launch(
    kernel: Any, key: Any, programs: int, held: Sequence[Any], given: Sequence[Any]
) -> Callable[[Sequence[Any]], None]:
    """Launches a kernel over so many programs; returns what launches it again with others in place of ``given``.

    Arguments:
        kernel: a kernel of Triton's.
        key: what it is compiled for, beside the device.
        held: its first arguments, which lie where they lie.
        given: all others: tensors on the device, and numbers.
    """
    device = held[0].device
    if device.type != "cuda":
        kernel[(programs,)](*held, *given)
        return lambda given: kernel[(programs,)](*held, *given)
    with torch.cuda.device(device):
        known = _compiled.get((kernel, key, device))
        if known is None:
            known = kernel[(programs,)](*held, *given, num_warps=WARPS, enable_fp_fusion=False)
            _compiled[(kernel, key, device)] = known
            return _launcher(known, programs, held)
        again = _launcher(known, programs, held)
        again(given)
    return again


def _launcher(compiled: Any, programs: int, held: Sequence[Any]) -> Callable[[Sequence[Any]], None]:
    """Returns what launches a compiled kernel on the stream that is current then.

    Tensors go as the addresses that they are; a hook of Triton's own profiler is not called.

    Arguments:
        compiled: what Triton has compiled, and launched once.
        programs: how many.
        held: its first arguments, the first a tensor on the device; the others are given at each launch.
    """
    from triton.runtime.driver import driver

    run, function, metadata = compiled.run, compiled.function, compiled.packed_metadata
    stream, device = driver.active.get_current_stream, held[0].device
    index = device.index
    first = _addresses(held)

    def launch(given: Sequence[Any]) -> None:
        if index != torch.cuda.current_device():
            with torch.cuda.device(device):
                return launch(given)
        run(programs, 1, 1, stream(index), function, metadata, None, None, None, *first, *_addresses(given))
        return None

    return launch


def _addresses(args: Sequence[Any]) -> list[Any]:
    return [arg.data_ptr() if isinstance(arg, Tensor) else arg for arg in args]


def on_device(value: Any) -> bool:
    """Says whether the value is a tensor that kernels can read."""
    return isinstance(value, Tensor) and (value.device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1")
