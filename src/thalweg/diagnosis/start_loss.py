"""The loss at the start against that of the best constant output, which knows nothing but the targets."""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from thalweg.diagnosis.findings import Finding, Fix
from thalweg.diagnosis.loss_form import Form, Trial, form_of, trial
from thalweg.diagnosis.observe import Seen
from thalweg.initialization.output_bias import output_bias_from
from thalweg.tensors.as_trained import as_trained
from thalweg.tensors.layers import WEIGHTED, unit_count

ABOVE, ABOVE_OF_SCORES = 20.0, 4.0
ENDLESS = 1e6


class Constant(NamedTuple):
    """The best constant output, its loss, the least loss that any output has on the batch, and what is warned of."""

    value: Tensor
    best: float
    least: float
    dim: int | None
    threshold: float


def best_constant(seen: Seen) -> Constant | None:
    """Returns the best constant output, one number a unit; None where there is none or it is not found.

    It minimizes the loss over one half of the batch and is judged on the other half, so that it knows what the targets
    are like and not what they are: of 1,000 classes with 64 examples none is more likely than another. The same
    number for every unit is tried too, and what is better counts. All is in double precision, from the targets' own
    mean, median and frequencies on.

    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> y = torch.tensor([[0.0], [2.0]]).repeat(10, 1)
    >>> seen = observe(nn.Sequential(nn.Linear(3, 1)), (torch.randn(20, 3), y), nn.functional.mse_loss)
    >>> round(best_constant(seen).best, 4)
    1.0
    """
    test = trial(seen)
    if test is None or test.scores.dim() < 1 or test.start is None:
        return None
    target = test.target
    if isinstance(target, Tensor) and target.dim() and bool((target == target[:1]).all()):
        return None  # a constant is all that there is to learn in the batch
    form = form_of(test)
    dim = form.dim if form.dim is not None else _unit_dim(seen, test.scores)
    with as_trained(seen.model):
        value = _fitted(test, dim, form)
        best = math.inf if value is None else _loss_at(test, value)
        if value is None or not abs(best) < ENDLESS * max(abs(test.start), 1.0):
            return None
        best = max(best, _crossed(test, seen.examples, dim, form))
        best = min(best, _loss_at(test, torch.zeros_like(value))) if form.takes == "scores" else best
        least = 0.0
        above = ABOVE_OF_SCORES if form.takes == "scores" else ABOVE
        if not best > 0 or test.start > above * best:
            least = min(0.0, _least(test.loss, test.scores, 50)[0])
    return Constant(value, best, least, dim, above)


def start_loss(seen: Seen, constant: Constant | None) -> list[Finding]:
    """Finds a loss at the start more than 20 times as far from the least as that of the best constant output.

        (J − J_least) / (J_constant − J_least),   J_least what outputs fitted one by one come to: 0 for most losses

    For losses that take scores, such as cross-entropy, which grow with the scores and not with their square, it is 4
    times.

    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> x, y = torch.zeros(9, 1), torch.linspace(99, 101, 9)[:, None]
    >>> seen = observe(nn.Sequential(nn.Linear(1, 1)), (x, y), nn.functional.mse_loss)
    >>> [(f.kind, f.threshold) for f in start_loss(seen, best_constant(seen))]
    [('high start loss', 20.0)]

    Source: Deep Learning, §8.4 (biases: the marginal statistics of the output).
    """
    if constant is None or not constant.best - constant.least > 1e-12:
        return []
    times = (seen.loss - constant.least) / (constant.best - constant.least)
    if not times > constant.threshold:
        return []
    last = next(reversed(seen.layers), "")
    fix_code, apply_fix = _fix(seen, constant, last)
    why = (
        "the mean of the outputs is wrong"
        if apply_fix
        else "the outputs vary more between examples than the targets do"
    )
    meaning = f"the loss starts at {seen.loss:.3g}, that of the best constant output is {constant.best:.3g}: {why}"
    found = Finding("high start loss", "warning", last, times, meaning, fix_code, apply_fix, constant.threshold)
    return [found]


def _fix(seen: Seen, constant: Constant, last: str) -> tuple[str, Fix | None]:
    """Returns the line that has the last layer begin at the constant, and what does so where only its bias is off."""
    layer = seen.layers.get(last)
    y, value = seen.scores, constant.value
    if layer is None or y is None or not isinstance(layer.module, WEIGHTED) or layer.output.numel() != y.numel():
        return f'thalweg.initialization.initialize(model.get_submodule({last!r}), "glorot-normal")', None
    units = unit_count(layer.module)
    if value.numel() not in (1, units):
        return f'thalweg.initialization.initialize(model.get_submodule({last!r}), "glorot-normal")', None
    bias = layer.module.bias
    own = 0.0 if bias is None else bias.detach().reshape([-1 if i == constant.dim else 1 for i in range(y.dim())])
    factor = _factor(y.double() - own, seen.target)
    expression = _bias_expression(seen.target, value.flatten(), units)
    line = f"layer = model.get_submodule({last!r}); "
    line += f"layer.weight.data.mul_({factor:.2g}); " if factor < 1 else ""
    if bias is None:
        return f"{line}layer.bias = torch.nn.Parameter({expression})", None
    line += f"layer.bias.data.copy_({expression})"
    return line, partial(_begin, last, value.flatten()) if factor == 1 else None


def _factor(y: Tensor, target: Any) -> float:
    """Returns by what to multiply the weights so that what they add is small beside the targets, or beside 1."""
    size = 1.0
    if isinstance(target, Tensor) and target.is_floating_point() and target.numel() == y.numel():
        size = float(target.double().std())
    own = float(y.square().mean().sqrt())
    return 1.0 if own <= size else 0.1 * size / own


def _bias_expression(target: Any, value: Tensor, units: int) -> str:
    """Returns an expression of the bias: by the targets where that gives the constant found, else in numbers."""
    for kind in ("classification", "regression", "binary", "multilabel", "counts"):
        call = f'thalweg.initialization.output_bias_from(target, "{kind}"'
        call += f", {units})" if kind == "classification" else ")"
        try:
            bias: Any = output_bias_from(target, kind, *([units] if kind == "classification" else []))  # type: ignore[call-overload]
        except (ValueError, AttributeError, RuntimeError, IndexError):
            continue
        bias = bias[0] if kind == "regression" else bias
        off = (
            bias.double().cpu() - value.cpu() if bias.numel() == value.numel() else value.new_full((1,), math.inf).cpu()
        )
        off = off - off.mean() if kind == "classification" else off
        if float(off.abs().max()) <= 1e-2 * max(1.0, float(value.abs().max())):
            return call + ("[0]" if kind == "regression" else "")
    if value.numel() <= 16:
        return f"torch.tensor({[float(f'{v:.4g}') for v in value.tolist()]})"
    if isinstance(target, Tensor) and target.dim() == 2 and target.shape[1] == value.numel():
        return "target.mean(0)"
    return f"torch.tensor({float(value.mean()):.4g})"


@torch.no_grad()
def _begin(name: str, value: Tensor, model: nn.Module) -> None:
    bias = model.get_submodule(name).get_parameter("bias")
    bias.copy_(value.to(bias).expand_as(bias))


def _unit_dim(seen: Seen, y: Tensor) -> int | None:
    """Returns which dimension of the output has the units of the layer that ran last; None where none has."""
    if y.dim() <= 2 or not seen.layers:
        return y.dim() - 1 or None
    last = next(reversed(seen.layers.values()))
    own = last.unit_dim % y.dim()
    places = [own, *(d for d in range(1, y.dim()) if d != own)]
    return next((d for d in places if y.shape[d] == last.output.shape[last.unit_dim]), None)


def _loss_at(test: Trial, value: Tensor) -> float:
    found = test.at(value.expand_as(test.scores))
    return math.inf if found is None or math.isnan(found) else found


def _fitted(test: Trial, dim: int | None, form: Form) -> Tensor | None:
    """Returns the constant of least loss; of classes it is their frequencies, each counted half a time more."""
    starts = list(_starts(test, dim, form))
    losses = [_loss_at(test, start) for start in starts]
    if not starts or not math.isfinite(min(losses)):
        return None
    begin = starts[losses.index(min(losses))]
    if form.takes == "scores" and form.dim is not None and not test.is_float:
        return begin
    size = max(float(begin.abs().max()), test.spread, 1e-300)
    found = _least(lambda u: test.loss((begin + size * u).expand_as(test.scores)), torch.zeros_like(begin), 50)
    return begin + size * found[1] if found[0] <= min(losses) else begin


def _starts(test: Trial, dim: int | None, form: Form) -> Iterator[Tensor]:
    y, target = test.scores, test.target
    others = [i for i in range(y.dim()) if i != dim]
    shape = [size if i == dim else 1 for i, size in enumerate(y.shape)]
    yield y.new_zeros(shape)
    yield y.mean(others, keepdim=True)
    if not isinstance(target, Tensor) or not target.dim():
        return
    if test.is_float and target.numel() == y.numel():
        t = target.reshape(y.shape).to(y)
        mean = t.mean(others, keepdim=True)
        yield mean
        yield (
            t.movedim(dim, 0).flatten(1).median(1).values.reshape(shape)
            if dim is not None
            else t.median().reshape(shape)
        )
        if bool(((t >= 0) & (t <= 1)).all()):
            yield mean.clamp(1e-3, 1 - 1e-3).logit()
    elif not test.is_float and dim is not None and bool(((target >= 0) & (target < y.shape[dim])).any()):
        kept = target[(target >= 0) & (target < y.shape[dim])].flatten().long()
        counts = torch.bincount(kept, minlength=y.shape[dim]).to(y) + 0.5
        yield (counts / counts.sum()).log().reshape(shape)


def _crossed(test: Trial, examples: int, dim: int | None, form: Form) -> float:
    """Returns the loss of the constant of one half of the batch on the other; −∞ where it cannot be halved."""
    if examples < 4 or len(test.scores) != examples:
        return -math.inf
    halves = [test.part(slice(0, examples // 2)), test.part(slice(examples // 2, 2 * (examples // 2)))]
    losses = []
    for one, other in (halves, halves[::-1]):
        if one.start is None or other.start is None:
            return -math.inf
        value = _fitted(one, dim, form)
        losses.append(math.inf if value is None else _loss_at(other, value))
    return sum(losses) / 2


def _least(function: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> tuple[float, Tensor]:
    """Returns the least value of a function of one tensor that L-BFGS comes to, and where; ∞ where it raises."""
    c = start.detach().clone().requires_grad_()
    search = torch.optim.LBFGS([c], max_iter=steps, history_size=5, tolerance_grad=0, line_search_fn="strong_wolfe")
    least, place = math.inf, c.detach().clone()

    def closure() -> Tensor:
        nonlocal least, place
        search.zero_grad()
        value = function(c).reshape(())
        value.backward(inputs=[c])
        if value.item() < least:
            least, place = value.item(), c.detach().clone()
        return value

    with suppress(Exception):  # the loss is the user's: what was found until it raises stands
        search.step(closure)
    return least, place
