"""Where a size runs off along the depth of a model: what the checks of activations and of gradients share."""

from collections.abc import Callable, Sequence

from thalweg.diagnosis.findings import Severity
from thalweg.diagnosis.forward_recorder import Layer
from thalweg.diagnosis.observe import Seen

SMALL, LARGE = 1e-3, 1e3


def levels(seen: Seen, size: Callable[[Layer], float]) -> tuple[list[str], list[float]]:
    """Returns names and sizes of the model's levels: layers that read the same are one, of the largest size.

    Queries, keys and values are beside each other and no chain; what reads the model's inputs is one level too.

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    >>> levels(observe(net, (torch.randn(9, 3), torch.randn(9, 1)), nn.functional.mse_loss), lambda layer: 1.0)
    (['0', '2'], [1.0, 1.0])
    """
    names: dict[int, str] = {}
    sizes: dict[int, float] = {}
    for layer in seen.layers.values():
        key = layer.reads if layer.fed else 0
        names.setdefault(key, layer.name)
        sizes[key] = max(sizes.get(key, 0.0), size(layer))
    return list(names.values()), list(sizes.values())


def runs_off(sizes: Sequence[float]) -> tuple[int, float] | None:
    """Returns where sizes leave 1e-3 to 1e3 times the first for good, and the last's ratio; None where they do not.

    What comes back is no loss: a branch that starts at zero beside a residual path, or a normalization further on.

    >>> runs_off([1.0, 1e-2, 1e-4, 1e-5])
    (2, 1e-05)
    >>> runs_off([1.0, 1e-5, 1.0]) is None
    True
    """
    if len(sizes) < 2 or not sizes[0] > 0:
        return None
    ratios = [size / sizes[0] for size in sizes]
    if SMALL <= ratios[-1] <= LARGE:
        return None
    low = ratios[-1] < SMALL
    at = len(ratios) - 1
    while at > 1 and (ratios[at - 1] < SMALL if low else ratios[at - 1] > LARGE):
        at -= 1
    return at, ratios[-1]


def severity(ratio: float) -> Severity:
    """Returns how severe it is that a size runs off to this many times the first.

    >>> severity(1e-4), severity(1e-7)
    ('warning', 'error')
    """
    return "warning" if SMALL**2 <= ratio <= LARGE**2 else "error"
