"""What every layer shows, in the order in which they run: for plots over depth."""

from collections.abc import Mapping

from thalweg.diagnosis.dead_units import RECTIFIERS, dead
from thalweg.diagnosis.findings import Profile
from thalweg.diagnosis.forward_recorder import Layer
from thalweg.diagnosis.observe import FEWEST, Seen, deviation
from thalweg.diagnosis.saturated_units import BOUNDS, saturated


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
