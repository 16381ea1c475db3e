"""Data-driven scale: run one minibatch, and multiply up the weights of layers whose output is too small.

first-small   run the batch; find the first layer whose output's standard deviation is out of bounds; multiply its
              weights by target / std; repeat until all are within: the algorithm of the book
lsuv          the same from orthonormal weights: layer-sequential unit variance

Looked at are the layers' own outputs, before the nonlinearity; the deviation is that between examples, a unit at a
time, since what is the same for every example is no signal. With ``center`` each unit's bias takes its mean away,
without which sigmoids, whose outputs are all positive, saturate the units that they feed.

With ``of="gradients"`` it is the gradient of the loss by those outputs that is to be as large in every layer as in
the last. A layer's weights pass the gradient on to the layer before, and all are scaled at once.

Source: Deep Learning, §8.4 (p. 305); Mishkin & Matas 2015 (LSUV).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn

from thalweg.initialization.effective_tensors import effective_tensors
from thalweg.initialization.orthogonal import orthogonal_
from thalweg.tensors.as_trained import as_trained
from thalweg.tensors.layers import WEIGHTED, unit_blocks
from thalweg.tensors.parts import watched
from thalweg.tensors.ranges import is_whole, is_within
from thalweg.tensors.text import aligned

Method = Literal["first-small", "lsuv"]


@dataclass(frozen=True)
class Scaled:
    """What was done to one layer.

    Attributes:
        layer: its name in the model.
        before, after: standard deviation of its output, or of the gradient by it.
        factor: by which its weights were multiplied in all.
    """

    layer: str
    before: float
    after: float
    factor: float


@dataclass(frozen=True)
class ScaleReport:
    """What :func:`scale_by_data` did: its layers in the order in which they run, and whether all are within bounds.

    Attributes:
        layers: one :class:`Scaled` a layer.
        passes: of the batch through the model.
        done: whether every layer is within bounds; if not, the passes allowed were used up.
    """

    layers: tuple[Scaled, ...]
    passes: int
    done: bool

    def __str__(self) -> str:
        rows = [("layer", "std before", "after", "factor")]
        rows += [(s.layer, f"{s.before:.3g}", f"{s.after:.3g}", f"{s.factor:.3g}") for s in self.layers]
        end = (
            "all within bounds"
            if self.done
            else "not all within bounds: allow more passes, or check the layers before them"
        )
        return "\n".join([*aligned(rows), f"{self.passes} passes, {end}"])


def scale_by_data(
    model: nn.Module,
    batch: Any,
    method: Method = "first-small",
    *,
    generator: Generator | None = None,
    center: bool = False,
    of: Literal["activations", "gradients"] = "activations",
    loss: Callable[[Any], Tensor] | None = None,
    target: float = 1.0,
    bounds: tuple[float, float] = (0.8, 1.25),
    passes: int = 200,
) -> ScaleReport:
    """Scales the dense and convolution weights of a model in place, by the outputs of its layers on a minibatch.

    While the batch runs, dropout is off, and normalization layers use the batch without changing their running
    statistics. Recurrent and attention modules, and layers that are not trained, are run but not changed.

    Arguments:
        model: any module.
        batch: an input, or a tuple of the inputs, of the model.
        method: ``"first-small"`` or ``"lsuv"``.
        generator: source of lsuv's orthonormal weights, on the CPU; torch's global one by default.
        center: whether biases, where there are any, remove the mean of each unit's output.
        of: ``"activations"``, or ``"gradients"`` of the loss by the layers' outputs.
        loss: from the model's output to a scalar, for gradients.
        target: the standard deviation to reach; for gradients, relative to that of the last layer.
        bounds: a layer whose deviation is within these shares of the target is not changed.
        passes: maximum number of passes of the batch.

    Returns:
        A :class:`ScaleReport`, which prints as a table.

    Raises:
        ValueError: no dense or convolution layer runs; a layer's output is zero or not finite; unknown method;
            gradients without a loss. The model is then as it was.

    >>> torch.manual_seed(0)
    <torch._C.Generator object at ...>
    >>> net = nn.Sequential(nn.Linear(20, 50), nn.Tanh(), nn.Linear(50, 50), nn.Tanh(), nn.Linear(50, 1))
    >>> report = scale_by_data(net, torch.randn(100, 20))
    >>> report.done, all(0.8 <= s.after <= 1.25 for s in report.layers)
    (True, True)

    Source: Deep Learning, §8.4 (p. 305); Mishkin & Matas 2015.
    """
    if method not in ("first-small", "lsuv"):
        raise ValueError(f"unknown method {method!r}: choose first-small or lsuv")
    if of == "gradients" and loss is None:
        raise ValueError("gradients need a loss: pass loss=, a function of the model's output")
    if not (is_within(target, 0) and target > 0 and 0 < bounds[0] <= 1 <= bounds[1] and is_whole(passes)):
        raise ValueError(
            f"target {target}, bounds {bounds}, passes {passes}: give target > 0, bounds around 1, passes >= 1"
        )
    probe = _Probe(model, batch, loss if of == "gradients" else None)
    saved = [(t, t.detach().clone()) for m in probe.layers.values() for t in [*m.parameters(), *m.buffers()]]
    try:
        first = probe.look()
        if method == "lsuv":
            with torch.no_grad():
                for name in first:
                    weight = torch.empty_like(probe.layers[name].weight)
                    for block in unit_blocks(probe.layers[name], weight):
                        wide = torch.promote_types(block.dtype, torch.float32)
                        block.copy_(orthogonal_(torch.empty(block.shape, dtype=wide), generator))
                    _set(name, probe.layers[name], weight)
        scale = _scale_gradients if of == "gradients" else partial(_scale_activations, center=center)
        return scale(probe, first, target, bounds, passes)
    except Exception:
        with torch.no_grad():
            for p, value in saved:
                p.copy_(value)
        raise


Bounds = tuple[float, float]


def _scale_activations(
    probe: "_Probe", first: Mapping[str, "_Seen"], target: float, bounds: Bounds, passes: int, center: bool
) -> ScaleReport:
    factors, used, centered = dict.fromkeys(first, 1.0), 1, set[str]()
    while True:
        now = probe.look()
        used += 1
        wrong = [
            name
            for name, seen in now.items()
            if not bounds[0] <= seen.deviation / target <= bounds[1] or (center and name not in centered)
        ]
        if not wrong or used >= passes:
            return _report(first, now, factors, used, not wrong)
        name, layer = wrong[0], probe.layers[wrong[0]]
        if not now[name].deviation > 0:
            raise ValueError(
                f"layer {name!r} has the same output for every example and cannot be scaled: its weights are zero, "
                "or the units before it are dead"
            )
        factor = target / now[name].deviation
        factors[name] *= factor
        with torch.no_grad():
            _set(name, layer, layer.weight * factor)
            if center and layer.bias is not None:
                layer.bias.sub_(now[name].mean).mul_(factor)
        centered.add(name)


def _scale_gradients(
    probe: "_Probe", first: Mapping[str, "_Seen"], target: float, bounds: Bounds, passes: int
) -> ScaleReport:
    factors, used, order = dict.fromkeys(first, 1.0), 1, list(first)
    while True:
        now = probe.look()
        used += 1
        sizes = [now[name].deviation for name in order]
        if not all(size > 0 for size in sizes):
            name = order[next(i for i, size in enumerate(sizes) if not size > 0)]
            raise ValueError(
                f"layer {name!r} receives no gradient: the units after it are dead, or its output is not used"
            )
        done = all(bounds[0] <= size / (target * sizes[-1]) <= bounds[1] for size in sizes[:-1])
        if done or used >= passes:
            return _report(first, now, factors, used, done)
        with torch.no_grad():
            for i, lever in enumerate(order[1:]):  # the layer after passes the gradient on; half of the way at a time
                goal = target * sizes[-1] if i == len(order) - 2 else sizes[i + 1]
                factor = (goal / sizes[i]) ** 0.5
                factors[lever] *= factor
                _set(lever, probe.layers[lever], probe.layers[lever].weight * factor)


def _set(name: str, layer: nn.Module, weight: Tensor) -> None:
    """Sets a layer's weight, be it computed from other parameters."""
    tensor = effective_tensors(layer)["weight"]
    tensor.value.copy_(weight)
    if not tensor.write_back():
        raise ValueError(f"layer {name!r} computes its weight from other tensors and cannot be scaled: leave it frozen")


def _report(
    first: Mapping[str, "_Seen"], now: Mapping[str, "_Seen"], factors: Mapping[str, float], used: int, done: bool
) -> ScaleReport:
    rows = [Scaled(name, first[name].deviation, now[name].deviation, factors[name]) for name in first]
    return ScaleReport(tuple(rows), used, done)


class _Seen(NamedTuple):
    """A layer's output on the batch: the deviation between examples, and each unit's mean ``(units,)``."""

    deviation: float
    mean: Tensor


class _Probe:
    """A model, a batch, and the standard deviations that the layers show."""

    def __init__(self, model: nn.Module, batch: Any, loss: Callable[[Any], Tensor] | None) -> None:
        self.model, self.batch, self.loss = model, batch, loss
        self.layers: dict[str, Any] = {
            n: m
            for n, m in model.named_modules()
            if isinstance(m, WEIGHTED)
            and (weight := effective_tensors(m).get("weight"))
            and weight.params[0].requires_grad
        }

    def look(self) -> dict[str, _Seen]:
        """Returns what the layers show, in the order in which they run."""
        outputs: dict[str, Tensor] = {}
        with (
            watched(self.layers, outputs.setdefault),
            as_trained(self.model),
            torch.set_grad_enabled(self.loss is not None),
        ):
            result = self.model(*self.batch) if isinstance(self.batch, tuple) else self.model(self.batch)
            if self.loss is not None:
                grads = torch.autograd.grad(self.loss(result), list(outputs.values()), allow_unused=True)
                outputs = {
                    n: torch.zeros_like(o) if g is None else g for (n, o), g in zip(outputs.items(), grads, strict=True)
                }
        if not outputs:
            raise ValueError("no dense or convolution layer runs on the batch: there is nothing to scale")
        found = {name: _seen(self.layers[name], _wide(output.detach())) for name, output in outputs.items()}
        bad = next((name for name, seen in found.items() if not math.isfinite(seen.deviation)), None)
        if bad is not None:
            raise ValueError(
                f"layer {bad!r} gives NaN or infinity on the batch: correct the inputs or the weights first"
            )
        return found


def _wide(output: Tensor) -> Tensor:
    return output.to(torch.promote_types(output.dtype, torch.float32)) if output.dtype.itemsize < 4 else output


def _seen(layer: nn.Module, output: Tensor) -> _Seen:
    units = output.flatten(0, -2) if isinstance(layer, nn.Linear) else output.movedim(1, -1).flatten(0, -2)
    variance, mean = torch.var_mean(units, dim=0, correction=0)
    return _Seen(float(variance.mean()) ** 0.5, mean)
