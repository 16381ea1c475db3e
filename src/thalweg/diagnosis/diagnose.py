"""All checks on a model before it trains."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from thalweg.architecture import AuxiliaryHeads
from thalweg.diagnosis.activation_scale import activation_scale
from thalweg.diagnosis.batches import as_batch
from thalweg.diagnosis.broadcast_target import broadcast_target
from thalweg.diagnosis.chaos import chaos, growth
from thalweg.diagnosis.constant_output import constant_output
from thalweg.diagnosis.copied_examples import copied_examples
from thalweg.diagnosis.cut_gradient import cut_gradient
from thalweg.diagnosis.dead_units import RECTIFIERS, dead, dead_units
from thalweg.diagnosis.few_examples import few_examples
from thalweg.diagnosis.findings import Diagnosis, Finding, Profile
from thalweg.diagnosis.fixes import apply_fixes, chosen
from thalweg.diagnosis.forward_recorder import Layer
from thalweg.diagnosis.gates import saturated_gates
from thalweg.diagnosis.gradient_noise import batch_size, gradient_noise
from thalweg.diagnosis.gradient_scale import gradient_scale
from thalweg.diagnosis.half_precision import OVERFLOW, half_precision
from thalweg.diagnosis.heavy_dropout import heavy_dropout
from thalweg.diagnosis.input_scale import constant_features, input_scale
from thalweg.diagnosis.large_weights import large_weights
from thalweg.diagnosis.learning_rate_range import WINDOW, learning_rate
from thalweg.diagnosis.mixed_examples import mixed_examples
from thalweg.diagnosis.no_nonlinearity import no_nonlinearity
from thalweg.diagnosis.nonfinite import KIND, nonfinite
from thalweg.diagnosis.observe import FEWEST, Loss, Seen, deviation, observe
from thalweg.diagnosis.one_class import one_class
from thalweg.diagnosis.output_form import output_form
from thalweg.diagnosis.redundant_bias import redundant_bias
from thalweg.diagnosis.saturated_attention import saturated_attention
from thalweg.diagnosis.saturated_units import BOUNDS, saturated, saturated_units
from thalweg.diagnosis.sees_target import sees_target
from thalweg.diagnosis.shared_layer import shared_layer
from thalweg.diagnosis.sharpness import STEPS, curvature, sharpness
from thalweg.diagnosis.start_loss import best_constant, start_loss
from thalweg.diagnosis.summed_loss import summed_loss
from thalweg.diagnosis.symmetry import symmetry
from thalweg.diagnosis.target_range import target_range
from thalweg.diagnosis.through_time import through_time
from thalweg.diagnosis.unread_inputs import unread_inputs
from thalweg.diagnosis.unregistered import unregistered
from thalweg.diagnosis.untrained import untrained

OPERATIONS = 400
CHECKS = (
    unregistered,
    shared_layer,
    symmetry,
    activation_scale,
    constant_output,
    gradient_scale,
    cut_gradient,
    dead_units,
    saturated_units,
    saturated_gates,
    saturated_attention,
    through_time,
    mixed_examples,
    sees_target,
    no_nonlinearity,
    output_form,
    summed_loss,
    broadcast_target,
    target_range,
    input_scale,
    constant_features,
    unread_inputs,
    copied_examples,
    large_weights,
    heavy_dropout,
    untrained,
    redundant_bias,
    few_examples,
    half_precision,
)


def diagnose(
    model: nn.Module,
    batch: Any,
    loss: Loss,
    *,
    more: Sequence[Any] = (),
    fix: bool = False,
    curvature_steps: int | None = None,
    noise_batches: int | None = None,
    range_steps: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Diagnosis:
    """Finds out what is wrong with a model before it trains, layer by layer, and how to fix it.

    One forward and one backward pass are observed, as in training but without dropout. Then the function measures the
    curvature, at the start and after ten steps of gradient descent; the noise of the gradients; and the loss while the
    learning rate increases. Afterwards parameters, gradients, buffers, modes and random states are as before, unless
    ``fix`` is True. If NaN or infinity is found, only parameters that will not train are reported in addition.

    Arguments:
        model: any module with its initial parameters; auxiliary heads are ignored.
        batch: ``(inputs, target)``, as in training; several inputs are a tuple. Checks of units need at least 8
            examples, and checks of scales at least 2.
        loss: ``(output, target) -> scalar``.
        more: further batches for the noise of the gradients (7 or more; otherwise the batch is split) and for the range
            test.
        fix: whether to apply the fixes that discard nothing learned to the model, and to report the remaining findings.
            A fix that does not help is reverted.
        curvature_steps: number of products with the Hessian, each of which costs two to three gradients; by default 20,
            and 0 skips the curvature.
        noise_batches: number of gradients from which their noise is estimated; by default 16, and 0 skips it.
        range_steps: number of steps of the learning-rate range test, 32 or more; by default 100, and 0 skips it. For
            models of more than 400 operations, the defaults of these three numbers decrease in proportion, to 8, 8 and
            48 at least.
        progress: receives the name of each check that begins.

    Returns:
        The :class:`Diagnosis`: findings, the most severe first. It prints as a table.

    Raises:
        ValueError: the batch is not a pair or does not fit, or the loss is not a scalar or depends on no parameter.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    >>> _ = nn.init.constant_(net[0].bias, -100.0)
    >>> batch = (torch.randn(64, 8), torch.randint(2, (64,)))
    >>> [(f.severity, f.layer) for f in diagnose(net, batch, nn.functional.cross_entropy) if f.kind == "dead units"]
    [('error', '0')]
    >>> [f.kind for f in diagnose(net, batch, nn.functional.cross_entropy, fix=True).fixed]
    ['dead units']

    Source: Deep Learning, §8.2, §8.4.
    """
    asked = (
        ("curvature_steps", curvature_steps, 1),
        ("noise_batches", noise_batches, 4),
        ("range_steps", range_steps, 2 * WINDOW),
    )
    for name, value, least in asked:
        if value and value < least:
            raise ValueError(f"{name} is {value}: it must be at least {least}, or 0 to skip this measurement")
    if isinstance(model, AuxiliaryHeads) and model.model is not None:
        model = model.model  # its heads rest where it runs on its own
    report = progress or (lambda _: None)
    report("layers")
    fixed = apply_fixes(model, lambda: _findings_and_growth(observe(model, batch, loss), loss)[0]) if fix else ()
    seen = observe(model, batch, loss)
    found, growths = _findings_and_growth(seen, loss)
    curvature_steps = _many(seen, 20, 8) if curvature_steps is None else curvature_steps
    noise_batches = _many(seen, 16, 8) if noise_batches is None else noise_batches
    range_steps = _many(seen, 100, 48) if range_steps is None else range_steps
    others, test = [as_batch(b) for b in more], None
    found += one_class(seen, others)
    if not any(f.kind == KIND or (f.kind == OVERFLOW and f.severity == "error") for f in found):
        if curvature_steps:
            report("curvature at the start")
            start = curvature(seen, loss, curvature_steps)
            found += sharpness(start, "at the start")
            largest = None if isinstance(start, str) else max(abs(start.smallest), abs(start.largest))
            report(f"curvature after {STEPS} steps")
            later = curvature(seen, loss, curvature_steps, STEPS, largest)
            found += sharpness(later, f"after {STEPS} steps")
        if noise_batches:
            report("gradient noise")
            found += batch_size(gradient_noise(seen, others, loss, noise_batches))
        if range_steps:
            report("learning rates")
            notes, test = learning_rate(seen, others, loss, range_steps)
            found += notes
    return Diagnosis(tuple(found), fixed, depth(seen, growths), test)


def _many(seen: Seen, usual: int, least: int) -> int:
    """Returns how many of something a model of this size is given."""
    return max(least, round(usual * min(1.0, OPERATIONS / max(seen.operations, 1))))


def _findings_and_growth(seen: Seen, loss: Loss) -> tuple[list[Finding], dict[str, float]]:
    """Returns what the watched passes show, and how a small difference grows from layer to layer."""
    found, growths = _checked(seen)
    return chosen(seen.model, found, lambda model: _checked(observe(model, seen.batch, loss))[0]), growths


def _checked(seen: Seen) -> tuple[list[Finding], dict[str, float]]:
    bad = nonfinite(seen)
    if bad:
        return [*bad, *untrained(seen)], {}
    found, growths = [finding for check in CHECKS for finding in check(seen)], growth(seen)
    return [*found, *start_loss(seen, best_constant(seen)), *chaos(growths)], growths


def depth(seen: Seen, growths: Mapping[str, float]) -> tuple[Profile, ...]:
    """Returns signal, gradient, growth and share of idle units of each layer.

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    >>> profile = depth(observe(net, (torch.randn(9, 3), torch.randn(9, 1)), nn.functional.mse_loss), {})
    >>> [(p.layer, p.idle is None) for p in profile]
    [('0', False), ('2', True)]
    """
    return tuple(
        Profile(
            name,
            deviation(layer.output, seen.examples) if seen.examples > 1 else 0.0,
            None if layer.gradient is None else float(layer.gradient.float().norm()),
            growths.get(name),
            _idle(layer) if seen.examples >= FEWEST else None,
        )
        for name, layer in seen.layers.items()
    )


def _idle(layer: Layer) -> float | None:
    units = [dead(layer, name) for name in layer.activations if name in RECTIFIERS]
    units += [saturated(layer, name) for name in layer.activations if name in BOUNDS]
    return max((float(u.float().mean()) for u in units), default=None)
