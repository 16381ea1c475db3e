"""Outputs of another form than the loss takes: probabilities, scores that are not normalized, a bounded range."""

import math

from torch import Tensor

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.loss_form import Form, form_of, trial
from thalweg.diagnosis.mixed_examples import give_output_of
from thalweg.diagnosis.observe import Seen
from thalweg.diagnosis.target_range import into_unit_range, looks_like_bytes

RANGES = {
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
    "softplus": (0.0, math.inf),
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "softmax": (0.0, 1.0),
}
SHARE, SUM = 0.05, 1e-4


def output_form(seen: Seen) -> list[Finding]:
    """Finds outputs of another form than the loss takes.

        probabilities as logits        in [0, 1], where the loss takes scores or logarithms: they go through a softmax
                                       or sigmoid twice, or through none that it asks for
        scores as log-probabilities    not normalized, where the loss adds up logarithms: it falls without end
        bounded outputs                in a range that scores, or 5 % of the targets, go beyond

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net, batch = nn.Sequential(nn.Linear(3, 4), nn.Softmax(1)), (torch.randn(9, 3), torch.arange(9) % 4)
    >>> [(f.kind, f.layer) for f in output_form(observe(net, batch, nn.functional.cross_entropy))]
    [('probabilities as logits', '0')]

    Source: Deep Learning, §6.2.2 (output units go with their loss).
    """
    test = trial(seen)
    if test is None:
        return []
    form, y, layer = form_of(test), test.scores, next(reversed(seen.layers), "")
    end = _end(seen, y, form)
    if form.takes != "values" and end in ("softmax", "sigmoid", "hardsigmoid"):
        low, high = float(y.min()), float(y.max())
        wanted = "scores, to which it applies softmax or sigmoid itself" if form.takes == "scores" else "logarithms"
        meaning = f"outputs are {end} values, {low:.2g} to {high:.2g}, and the loss expects {wanted}"
        inner = "logit(1e-6)" if end != "softmax" else "clamp_min(1e-12).log()"
        inner = "clamp(1e-6, 1 - 1e-6).log()" if end != "softmax" and form.takes != "scores" else inner
        fix = f"loss = lambda output, target, loss=loss: loss(output.{inner}, target)"
        return [Finding("probabilities as logits", "warning", layer, high, meaning, fix, threshold=1.0)]
    if form.takes == "log-probabilities" and form.dim is not None:
        total = float(y.exp().sum(form.dim).log().abs().max())
        if total > 1e-3:
            meaning = (
                "the loss expects log-probabilities, which the outputs are not: it falls without limit as they grow"
            )
            fix = f"loss = lambda output, target, loss=loss: loss(output.log_softmax({form.dim}), target)"
            return [Finding("scores as log-probabilities", "error", layer, total, meaning, fix, threshold=1e-3)]
    return _bounded(seen, y, form, end, layer)


def _end(seen: Seen, y: Tensor, form: Form) -> str:
    """Returns the function that the outputs come from, as it was called or as its values show it."""
    if seen.end:
        return seen.end
    low, high = float(y.min()), float(y.max())
    if low == 0 and float((y == 0).double().mean()) > SHARE and high > 0:
        return "relu"
    if low < 0 or high > 1 or low == high:
        return ""
    dims = [form.dim] if form.dim is not None else [d for d in range(1, y.dim()) if y.shape[d] > 1]
    if any(y.shape[d] > 1 and float((y.sum(d) - 1).abs().max()) < SUM for d in dims):
        return "softmax"
    units = y.shape[form.dim] if form.dim is not None else 1
    return "sigmoid" if units >= 8 and 0.3 < float(y.mean()) < 0.7 else ""


def _bounded(seen: Seen, y: Tensor, form: Form, end: str, layer: str) -> list[Finding]:
    if end not in RANGES:
        return []
    low, high = RANGES[end]
    beyond = 1.0
    if form.takes == "values":
        target = seen.target
        if not isinstance(target, Tensor) or not target.is_floating_point() or target.numel() != y.numel():
            return []
        slack = 1e-6 + (0.02 if math.isfinite(high) else 0.0)
        beyond = float(((target < low - slack) | (target > high + slack)).double().mean())
        if beyond <= SHARE:
            return []
    what = "the scores that the loss expects" if form.takes != "values" else f"{beyond:.0%} of the targets"
    meaning = f"outputs are {end} values, in [{low:g}, {high:g}], and {what} lie outside"
    fix = _unbounded(seen, end, layer)
    if form.takes == "values" and RANGES[end] == (0.0, 1.0) and _is_mask(seen.target):
        meaning, fix = f"{meaning}: bring them to [0, 1]", into_unit_range(seen.target)
    return [Finding("bounded outputs", "warning", layer, beyond, meaning, fix, threshold=SHARE)]


def _is_mask(target: Tensor) -> bool:
    """Returns whether numbers are made from others in [0, 1]: bytes, or two numbers alone."""
    return looks_like_bytes(target) or len(target.unique()) == 2


def _unbounded(seen: Seen, end: str, layer: str) -> str:
    """Returns the line that takes a module of this function away, or has the model give the layer's own output."""
    names = [name for name, _ in seen.model.named_modules()]
    for name in reversed(names[names.index(layer) + 1 :] if layer in names else []):
        if type(seen.model.get_submodule(name)).__name__.lower() == end:
            return f"model.set_submodule({name!r}, torch.nn.Identity())"
    return give_output_of(layer)
