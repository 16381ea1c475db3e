"""All checks on a model before it trains."""

from typing import Any

from torch import nn

from thalweg.diagnosis.activation_scale import activation_scale
from thalweg.diagnosis.chaos import chaos, growth
from thalweg.diagnosis.dead_units import dead_units
from thalweg.diagnosis.few_examples import few_examples
from thalweg.diagnosis.findings import Diagnosis
from thalweg.diagnosis.gradient_scale import gradient_scale
from thalweg.diagnosis.nonfinite import nonfinite
from thalweg.diagnosis.observe import Loss, observe
from thalweg.diagnosis.redundant_bias import redundant_bias
from thalweg.diagnosis.saturated_units import saturated_units
from thalweg.diagnosis.sharpness import curvature, sharpness
from thalweg.diagnosis.start_loss import best_constant, start_loss
from thalweg.diagnosis.symmetry import symmetry
from thalweg.diagnosis.untrained import untrained

CHECKS = (
    symmetry,
    activation_scale,
    gradient_scale,
    dead_units,
    saturated_units,
    untrained,
    redundant_bias,
    few_examples,
)


def diagnose(model: nn.Module, batch: Any, loss: Loss, *, curvature_steps: int = 20) -> Diagnosis:
    """Says what is wrong with a model before it trains, layer by layer, and how to mend it.

    One forward and one backward pass are watched, as in training but with dropout off. Parameters, gradients,
    buffers, modes and the state of random draws are afterwards what they were. Where NaN or infinity is found nothing
    else is looked at but parameters that will not train.

    Arguments:
        model: any module, with its parameters as they will start.
        batch: ``(inputs, target)``, as it will be trained on; several inputs are a tuple. From 8 examples on units are
            judged, from 2 on scales.
        loss: ``(output, target) -> scalar``.
        curvature_steps: products with the Hessian, each of two to three gradients; 0 leaves curvature out.

    Returns:
        The :class:`Diagnosis`: findings, gravest first. It prints as a table.

    Raises:
        ValueError: the batch is no pair or does not fit, the loss is no scalar or hangs on no parameter.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    >>> _ = nn.init.constant_(net[0].bias, -100.0)
    >>> batch = (torch.randn(64, 8), torch.randint(2, (64,)))
    >>> [(f.severity, f.layer) for f in diagnose(net, batch, nn.functional.cross_entropy) if f.kind == "dead units"]
    [('error', '0')]

    Source: Deep Learning, §8.2, §8.4.
    """
    if curvature_steps < 0:
        raise ValueError(f"curvature_steps is {curvature_steps}: it must be at least 0, which leaves curvature out")
    seen = observe(model, batch, loss)
    bad = nonfinite(seen)
    if bad:
        return Diagnosis((*bad, *untrained(seen)))
    found = [finding for check in CHECKS for finding in check(seen)]
    found += start_loss(seen, best_constant(seen, loss))
    found += chaos(growth(seen))
    if curvature_steps:
        found += sharpness(curvature(seen, loss, curvature_steps))
    return Diagnosis(tuple(found))
