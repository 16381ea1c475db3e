"""Where a forward pass leaves the range of a half-precision type: each function is repeated in a wider type."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from thalweg.diagnosis.observe import Seen
from thalweg.initialization.following import function_name
from thalweg.tensors.as_trained import as_trained
from thalweg.tensors.private import tree_flatten, tree_map

HALF = (torch.float16, torch.bfloat16)


class Overflow(NamedTuple):
    """A function whose value is not finite in its type, and is in a wider one.

    Attributes:
        layer: name of the innermost module that calls it; empty of the loss.
        after: name of the module that ran last before it, where no layer of its own calls it; empty elsewhere.
        function: its name.
        dtype: the type that it ran in.
        largest: its largest value in the wider type; ∞ where only sums within it overflow.
        negative: whether all that overflows does so towards −∞.
        in_loss: whether the loss calls it.
    """

    layer: str
    after: str
    function: str
    dtype: torch.dtype
    largest: float
    negative: bool
    in_loss: bool


def overflows(seen: Seen) -> list[Overflow]:
    """Returns what overflows in a half-precision type, in the order in which it runs.

    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(nn.Linear(1, 2, dtype=torch.float16), nn.ReLU())
    >>> _ = nn.init.constant_(net[0].weight, 300.0)
    >>> batch = (torch.full((8, 1), 300.0, dtype=torch.float16), None)
    >>> [(o.layer, o.function, round(o.largest / 1e4)) for o in overflows(observe(net, batch, lambda y, _: y.mean()))]
    [('0', 'linear', 9)]
    """
    watch = _Watch()
    with as_trained(seen.model), _following(seen.model, watch), watch:
        output = seen.model(*seen.inputs)
        watch.in_loss = True
        seen.function(output, seen.target)
    return watch.found


class _Watch(TorchFunctionMode):
    """Repeats a function that gives infinity or NaN, and notes it where that is the fault of its type."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Overflow] = []
        self.within: list[str] = []  # modules that run, the innermost last
        self.last, self.in_loss = "", False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args else None
        held = isinstance(first, Tensor) and first.dtype in HALF and _in_place(func)
        kept = (first.detach().clone(), *args[1:]) if held and first is not None else args
        result = func(*args, **kwargs)
        for i, tensor in enumerate(tree_flatten(result)[0]):
            if isinstance(tensor, Tensor) and tensor.dtype in HALF and not bool(tensor.detach().isfinite().all()):
                self._note(func, kept, kwargs, i, tensor.detach())
                break
        return result

    def _note(self, func: Callable[..., Any], args: Any, kwargs: Any, i: int, tensor: Tensor) -> None:
        wide = _repeated(func, args, kwargs, i)
        if wide is None or wide.shape != tensor.shape:
            return
        over = ~tensor.isfinite() & wide.isfinite()
        if not bool(over.any()):
            return
        largest = float(wide[over].abs().max())
        largest = largest if largest > torch.finfo(tensor.dtype).max else float("inf")
        negative = bool((tensor[over] < 0).all())
        layer = "" if self.in_loss else self.within[-1]
        name = function_name(func).strip("_")
        self.found.append(Overflow(layer, self.last, name, tensor.dtype, largest, negative, self.in_loss))


@contextmanager
def _following(model: nn.Module, watch: _Watch) -> Iterator[None]:
    """Runs its body, in which the watch knows what module runs, and which of those without parts ran last."""

    def begin(name: str, module: nn.Module, args: Any) -> None:
        watch.within.append(name)

    def end(name: str, module: nn.Module, args: Any, output: Any) -> None:
        watch.within.pop()
        if next(module.children(), None) is None:
            watch.last = name

    handles: list[Any] = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(partial(begin, name), prepend=True))
        handles.append(module.register_forward_hook(partial(end, name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _in_place(func: Callable[..., Any]) -> bool:
    name = getattr(func, "__name__", "")
    return name.startswith("__i") if name.endswith("__") else name.endswith("_")


@torch.no_grad()
def _repeated(func: Callable[..., Any], args: Any, kwargs: Any, i: int) -> Tensor | None:
    """Returns a tensor of what a function gives in double precision; None where that cannot be had."""
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            values = tree_flatten(func(*tree_map(_wider, args), **tree_map(_wider, kwargs)))[0]
    except Exception:  # not every kernel takes it
        return None
    wide = values[i]
    if isinstance(wide, Tensor) and wide.dtype in HALF:  # a cast
        wide = next((a for a in args if isinstance(a, Tensor)), None)
    return wide.detach().double() if isinstance(wide, Tensor) else None


def _wider(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().double()
    return torch.float64 if isinstance(value, torch.dtype) and value in HALF else value
