"""Further passes, for what shows only as something is changed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from thalweg.diagnosis.forward_recorder import first_of, in_place_of
from thalweg.diagnosis.observe import Seen, observe
from thalweg.tensors.as_trained import as_trained, put_back
from thalweg.tensors.parts import watched
from thalweg.tensors.private import tree_flatten

Change = Callable[[Tensor], Tensor]
STEP = 0.02


@torch.no_grad()
def evaluated(
    seen: Seen, inputs: Sequence[Any] | None = None, change: dict[str, Change] | None = None
) -> tuple[Any, dict[str, Tensor]]:
    """Returns the model's output in evaluation mode, and that of each layer the first time that it runs.

    Arguments:
        seen: the model, and its inputs.
        inputs: others than those.
        change: by names of layers what is done to their outputs the first time.
    """
    outputs: dict[str, Tensor] = {}

    def note(name: str, output: Any) -> Any:
        tensor = first_of(output)
        if tensor is None or name in outputs:
            return None
        changed = (change or {}).get(name)
        outputs[name] = tensor = tensor.clone() if changed is None else changed(tensor)
        return None if changed is None else in_place_of(output, tensor.clone())

    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # else torch's encoder passes its parts by
        modules = {name: layer.module for name, layer in seen.layers.items()}
        with watched(modules, note), as_trained(seen.model), torch.no_grad():
            seen.model.eval()
            output = seen.model(*(seen.inputs if inputs is None else inputs))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return output, outputs


@contextmanager
def stepped(seen: Seen) -> Iterator[Seen]:
    """Runs its body a step against the gradient further: what only starts at 0, as a branch may, is not 0 there.

    θ − 0.02 g / rms(g) for each parameter
    """
    moved = [(seen.model.get_parameter(name), g) for name, g in seen.gradients.items() if g is not None]
    with put_back([p for p, _ in moved]):
        with torch.no_grad():
            for p, g in moved:
                slope = g.to_dense() if g.is_sparse else g
                p.sub_(STEP * slope / slope.abs().square().mean().sqrt().clamp_min(1e-30))
        yield observe(seen.model, seen.batch, seen.function)


def tensors_of(output: Any) -> list[Tensor]:
    """Returns the tensors of floating-point numbers in an output of any nesting."""
    return [t.detach() for t in tree_flatten(output)[0] if isinstance(t, Tensor) and t.is_floating_point()]


def along(tensor: Tensor, size: int) -> list[int]:
    """Returns which of the first two dimensions have a size."""
    return [dim for dim, own in enumerate(tensor.shape[:2]) if own == size]
