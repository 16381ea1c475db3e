"""The driver of the methods that trust a quadratic model: how far is decided by how well the model predicted.

    m(d) = gᵀd + ½ dᵀB d,   ratio = (f(x) − f(x + d)) / −m(d)

A step is taken when the ratio is above 10⁻⁴, and the model's radius or damping grows or shrinks with it.
Where rounding hides the decrease, the gradient's norm decides.

Source: Nocedal & Wright, Numerical Optimization, §4.1 and §10.3.
"""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from thalweg.second_order.direction import Carried
from thalweg.second_order.objective import Evaluation, Objective
from thalweg.second_order.progress import ROUNDING, Callback, Limits, Place, ProgressMonitor, Report, norm

ACCEPT, POOR, GOOD = 1e-4, 0.25, 0.75
EXACT = 1e-6  # how near to 1 the ratio is on a quadratic, which has its minimum where the model has it
REJECTIONS = 60  # in a row, after which no progress can be made


class Model(Carried):
    """A quadratic model with a bound on its step, a radius or a damping; knows how to minimize and how to adapt.

    ``certain`` models have their steps taken whatever comes of it.
    """

    certain = False

    @abstractmethod
    def step(self, x: Tensor, at: Evaluation, gradient_share: float) -> tuple[Tensor, float] | None:
        """Returns (d, the decrease that the model predicts), None where the model gives none.

        ``gradient_share`` is ‖∇f‖∞ as a share of the first one.
        """

    @abstractmethod
    def judge(self, ratio: float, d: Tensor) -> None:
        """Adapts the radius or damping to how well the model predicted."""


def follow_model(
    objective: Objective,
    x: Tensor,
    model: Model,
    limits: Limits,
    callback: Callback | None = None,
    *,
    lr: float = 1.0,
) -> Report:
    """Minimizes from ``x`` by lr times the steps of the model; see :func:`thalweg.second_order.descent.descend`."""
    if not model.prepared:
        model.prepare(x)
    monitor, rejected = ProgressMonitor(objective, x, limits, callback, curvature=True), 0
    first, rounding = x, ROUNDING * torch.finfo(x.dtype).eps
    while not (ending := monitor.ended()):
        if monitor.rescale() != 1:
            model.prepare(x)
        place, at = monitor.place, monitor.at
        found = model.step(place.x, at, place.norm / monitor.first)
        if found is None:
            return monitor.report("singular")
        d, predicted = found
        if lr != 1:  # m(lr d) from m(d) and gᵀd
            slope = float(place.gradient @ d)
            d, predicted = d * lr, lr * lr * (predicted + slope) - lr * slope
        first = first if rejected else d
        there = place.x + d
        trial = objective.evaluate(there, curvature=True)
        new = Place.of(there, trial)
        ratio = _ratio(place, new, predicted, rounding)
        model.judge(ratio, d)
        if ratio > ACCEPT or model.certain:
            rejected, monitor.at = 0, trial
            if ending := monitor.move(new, float(norm(d)), predicted=abs(ratio - 1) <= EXACT):
                break
            if new.size > monitor.far:
                return monitor.report("unbounded")
        else:
            rejected += 1
            if rejected >= REJECTIONS or not bool(torch.any(new.x != place.x)):
                ending = monitor.ended() or ("gradient" if _solved(monitor, at, first) else "no progress")
                model.prepare(x)  # a radius that became so short would hold the next descent too
                return monitor.report(ending)
    return monitor.report(ending)


def _solved(monitor: ProgressMonitor, at: Evaluation, d: Tensor) -> bool:
    """Returns whether the minimum is near by the gradient's fall, or by a step that leaves half of it at most by B."""
    assert at.curvature is not None
    if monitor.is_near(monitor.approach.distance()) and (monitor.level or monitor.at_zero):
        return True
    left = norm(at.gradient + at.curvature.matvec(d))
    return float(left) <= 0.5 * monitor.place.norm and monitor.is_near(float(norm(d)))


def _ratio(place: Place, new: Place, predicted: float, rounding: float) -> float:
    """Returns the decrease as a share of what was predicted; −∞ where there is nothing to go to."""
    if not new.finite or not predicted > 0:
        return -math.inf
    if max(abs(place.value - new.value), predicted) <= rounding * abs(place.value):
        return 1.0 if new.norm < place.norm else -1.0
    return (place.value - new.value) / predicted
