"""Saturated units: sigmoids and tanh at their bounds, where the slope and with it the gradient is next to nothing."""

from torch import Tensor

from thalweg.diagnosis.findings import Finding, Severity
from thalweg.diagnosis.fixes import rescale
from thalweg.diagnosis.forward_recorder import Layer
from thalweg.diagnosis.observe import FEWEST, Seen, by_unit

SHARE, CASES, NEAR = 0.5, 0.9, 0.02
BOUNDS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "hardsigmoid": (0.0, 1.0), "hardtanh": (-1.0, 1.0)}


def saturated_units(seen: Seen) -> list[Finding]:
    """Finds layers half of whose units, or all, are within 0.02 of a bound for nine examples in ten.

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    >>> _ = nn.init.constant_(net[0].bias, 100.0)
    >>> found = saturated_units(observe(net, (torch.randn(9, 3), torch.randn(9, 1)), nn.functional.mse_loss))
    >>> [(f.severity, f.layer, f.figure) for f in found]
    [('error', '0', 1.0)]

    Source: Deep Learning, §6.3.2, §8.4 (p. 302: weights so large that units saturate).
    """
    found = []
    for layer in seen.layers.values() if seen.examples >= FEWEST else ():
        for name in layer.activations.keys() & BOUNDS.keys():
            share = float(saturated(layer, name).float().mean())
            if share >= SHARE:
                part = "all" if share == 1 else f"{share:.0%} of"
                meaning = (
                    f"{part} the {name} units are at their bounds for 90 % of the examples, where slopes are close to 0"
                )
                severity: Severity = "error" if share == 1 else "warning"
                choices = rescale(seen, layer, center=True)
                found.append(
                    Finding("saturated units", severity, layer.name, share, meaning, threshold=SHARE, choices=choices)
                )
    return found


def saturated(layer: Layer, name: str) -> Tensor:
    """Returns which units ``(units,)`` the function of this name has at a bound for nine examples in ten."""
    return at_bounds(by_unit(layer, layer.activations[name]).float(), *BOUNDS[name])


def at_bounds(values: Tensor, low: float, high: float) -> Tensor:
    """Returns which units ``(units,)`` of ``(cases, units)`` are within 0.02 of a bound in nine cases of ten."""
    return ((values < low + NEAR) | (values > high - NEAR)).float().mean(0) >= CASES
