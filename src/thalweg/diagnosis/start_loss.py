"""The loss at the start against that of the best constant output, which knows nothing but the targets."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from thalweg.diagnosis.findings import Finding, Mend
from thalweg.diagnosis.observe import Loss, Seen
from thalweg.tensors.as_trained import as_trained

ABOVE = 1.5


class Constant(NamedTuple):
    """Loss of the best constant output; that of the model with the best shift of its outputs, and the shift."""

    best: float
    shifted: float
    shift: Tensor | None = None


def best_constant(seen: Seen, loss: Loss) -> Constant | None:
    """Returns min_c J(c) and min_c J(y + c) over one number a unit, by L-BFGS; None where it is not found.

    It is not found where the output is no tensor, the targets are all the same, the loss has no minimum in c
    (log-probabilities), or does not take such an output. For cross-entropy it is the entropy of the classes in the
    batch, for mean squares the variance.

    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> y = torch.tensor([[0.0], [2.0]])
    >>> seen = observe(nn.Sequential(nn.Linear(3, 1)), (torch.randn(2, 3), y), nn.functional.mse_loss)
    >>> round(best_constant(seen, nn.functional.mse_loss).best, 4)
    1.0
    """
    y = seen.output
    if not isinstance(y, Tensor) or not y.is_floating_point() or y.dim() < 1 or not y.numel():
        return None
    if isinstance(seen.target, Tensor) and seen.target.dim() and bool((seen.target == seen.target[:1]).all()):
        return None  # a constant is all that there is to learn in the batch
    dim = _unit_dim(seen, y)
    shape = [size if i == dim else 1 for i, size in enumerate(y.shape)]
    mean = y.mean([i for i in range(y.dim()) if i != dim], keepdim=True)
    with as_trained(seen.model):
        best = _least(lambda c: loss((mean + c).expand_as(y), seen.target), torch.zeros(shape).to(y))
        shifted = _least(lambda c: loss(y + c, seen.target), torch.zeros(shape).to(y))
    if best is None:
        return None
    return Constant(best[0], math.inf, None) if shifted is None else Constant(best[0], *shifted)


def start_loss(seen: Seen, constant: Constant | None) -> list[Finding]:
    """Finds a loss at the start above 1.5 times that of the best constant output.

    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> x, y = torch.zeros(9, 1), torch.linspace(99, 101, 9)[:, None]
    >>> seen = observe(nn.Sequential(nn.Linear(1, 1)), (x, y), nn.functional.mse_loss)
    >>> [f.kind for f in start_loss(seen, best_constant(seen, nn.functional.mse_loss))]
    ['high start loss']

    Source: Deep Learning, §8.4 (biases: the marginal statistics of the output).
    """
    if constant is None or not constant.best > 1e-12 or not seen.loss > ABOVE * constant.best:
        return []
    times = seen.loss / constant.best
    last = next(reversed(seen.layers), "")
    kind = "regression"
    if isinstance(seen.target, Tensor) and not seen.target.is_floating_point():
        kind = "classification"
    bias = f'thalweg.initialization.output_bias_from(target, "{kind}"){"[0]" if kind == "regression" else ""}'
    layer = f"model.get_submodule({last!r})"
    has_bias = isinstance(getattr(seen.layers[last].module if last else None, "bias", None), Tensor)
    fix = f"{layer}.bias.data = {bias}" if has_bias else f"output = output + {bias}"
    mend: Mend | None = None
    if constant.shifted > ABOVE * constant.best:
        fix = f"{layer}.weight.data.mul_(0.1); {fix}"
        why = "outputs differ more between examples than the targets do"
    else:
        why = "the output's mean is off"
        if has_bias and constant.shift is not None and seen.layers[last].module.bias.numel() == constant.shift.numel():
            mend = partial(_add_to_bias, last, constant.shift)
    meaning = f"the loss starts at {seen.loss:.3g}, that of the best constant output is {constant.best:.3g}: {why}"
    return [Finding("high start loss", "warning", last, times, meaning, fix, mend)]


def _unit_dim(seen: Seen, y: Tensor) -> int | None:
    """Returns which dimension of the output has the units of the layer that ran last; None where none has."""
    if y.dim() <= 2 or not seen.layers:
        return y.dim() - 1 or None
    last = next(reversed(seen.layers.values()))
    own = last.unit_dim % y.dim()
    places = [own, *(d for d in range(1, y.dim()) if d != own)]
    return next((d for d in places if y.shape[d] == last.output.shape[last.unit_dim]), None)


@torch.no_grad()
def _add_to_bias(name: str, shift: Tensor, model: nn.Module) -> None:
    bias = model.get_submodule(name).get_parameter("bias")
    bias.add_(shift.flatten().to(bias))


def _least(function: Callable[[Tensor], Tensor], start: Tensor) -> tuple[float, Tensor] | None:
    """Returns the least value of a function of one tensor and where it is, or None where L-BFGS finds none."""
    c = start.requires_grad_()
    search = torch.optim.LBFGS([c], max_iter=100, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        value = function(c).reshape(())
        value.backward(inputs=[c])
        return value

    try:
        first = closure().item()
        search.step(closure)
        value = closure().item()
    except (RuntimeError, ValueError, IndexError, TypeError):
        return None
    flat = c.grad is not None and float(c.grad.abs().max()) <= 1e-3 * max(1.0, abs(first))
    return (value, c.detach()) if flat and math.isfinite(value) and value <= first else None
