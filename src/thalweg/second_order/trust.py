"""The driver of the methods that trust a quadratic model: how far is decided by how well the model foretold.

    m(d) = gᵀd + ½ dᵀB d,   ratio = (f(x) − f(x + d)) / −m(d)

A step is taken when the ratio is above 10⁻⁴, and the model's leash (a radius or a damping) grows or shrinks with it.
Where rounding hides the decrease, the gradient's norm decides.

Source: Nocedal & Wright, Numerical Optimization, §4.1 and §10.3.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from thalweg.second_order.descent import PATIENCE, Limits, Place, Report
from thalweg.second_order.direction import norm
from thalweg.second_order.objective import Evaluation, Objective

ACCEPT, POOR, GOOD = 1e-4, 0.25, 0.75
REJECTIONS = 60  # in a row, after which no progress can be made


class Model(ABC):
    """A quadratic model on a leash; knows how to be minimized and how to tighten or loosen the leash."""

    @abstractmethod
    def step(self, x: Tensor, at: Evaluation, gradient_share: float) -> tuple[Tensor, float] | None:
        """Returns (d, the decrease that the model foretells), None where the model gives none.

        ``gradient_share`` is ‖∇f‖∞ as a share of the first one.
        """

    @abstractmethod
    def judge(self, ratio: float, d: Tensor) -> None:
        """Adapts the leash to how well the model foretold."""


def follow_model(
    objective: Objective,
    x: Tensor,
    model: Model,
    limits: Limits,
    *,
    reference: float | None = None,
    callback: Callable[[Place], bool | None] | None = None,
) -> Report:
    """Minimizes from ``x`` by steps of the model; arguments as in :func:`thalweg.second_order.descent.descend`."""
    at = objective.evaluate(x, curvature=True)
    place = _place(x, at)
    if not math.isfinite(place.value) or not math.isfinite(place.norm):
        return Report(place, "not finite", 0)
    reference = place.norm if reference is None else reference
    rounding = 10 * torch.finfo(x.dtype).eps
    iteration = still = rejected = 0
    best = place.value, place.norm
    while True:
        if place.norm <= limits.gradient * reference:
            return Report(place, "gradient", iteration)
        if limits.iterations is not None and iteration >= limits.iterations:
            return Report(place, "iterations", iteration)
        if limits.evaluations is not None and objective.evaluations >= limits.evaluations:
            return Report(place, "evaluations", iteration)
        found = model.step(place.x, at, place.norm / reference if reference else 0.0)
        if found is None:
            return Report(place, "no progress", iteration)
        d, foretold = found
        trial = objective.evaluate(place.x + d, curvature=True)
        new = _place(place.x + d, trial)
        ratio = (place.value - new.value) / foretold if foretold > 0 else -math.inf
        hidden = max(abs(place.value - new.value), foretold) <= rounding * abs(place.value)
        if hidden and math.isfinite(new.norm):
            ratio = 1.0 if new.norm < place.norm else -1.0
        if not math.isfinite(ratio) or not math.isfinite(new.norm):
            ratio = -math.inf
        model.judge(ratio, d)
        if ratio <= ACCEPT:
            rejected += 1
            if rejected >= REJECTIONS or not bool(torch.any(place.x + d != place.x)):
                return Report(place, "no progress", iteration)
            continue
        rejected, iteration, before = 0, iteration + 1, place
        place, at = new, trial
        if callback is not None and callback(place):
            return Report(place, "callback", iteration)
        if limits.value and before.value - place.value <= limits.value * max(abs(before.value), abs(place.value)):
            return Report(place, "value", iteration)
        still = 0 if place.value < best[0] or place.norm < best[1] else still + 1
        best = min(best[0], place.value), min(best[1], place.norm)
        if still >= PATIENCE:
            return Report(place, "no progress", iteration)


def _place(x: Tensor, at: Evaluation) -> Place:
    value, size = torch.stack([at.value.to(x.dtype).reshape(()), norm(at.gradient)]).tolist()
    return Place(x, value, at.gradient, size)
