"""Parameters that will not train: frozen, or not used by the loss."""

from collections.abc import Sequence

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.observe import Seen


def untrained(seen: Seen) -> list[Finding]:
    """Finds frozen parameters (a note; an error where all are) and, layer by layer, those that the loss does not use.

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    >>> _ = net[0].requires_grad_(False)
    >>> found = untrained(observe(net, (torch.randn(9, 3), torch.randn(9, 1)), nn.functional.mse_loss))
    >>> [(f.kind, f.severity, f.layer, f.figure) for f in found]
    [('frozen parameters', 'note', '0', 2.0)]

    Source: Deep Learning, §8.7.4 (layers kept fixed on purpose).
    """
    found = []
    frozen = [name for name, p in seen.model.named_parameters() if not p.requires_grad]
    if frozen and not seen.gradients:
        fix = "model.requires_grad_(True)"
        found.append(Finding("frozen parameters", "error", "", float(len(frozen)), "no parameter is trained", fix))
    elif frozen:
        meaning = f"not trained while others are: {_some(frozen)}"
        layer = _module(frozen[0])
        fix = f"model.get_submodule({layer!r}).requires_grad_(True)  # if that is not on purpose"
        found.append(Finding("frozen parameters", "note", layer, float(len(frozen)), meaning, fix))
    unused: dict[str, list[str]] = {}
    for name, gradient in seen.gradients.items():
        if gradient is None:
            unused.setdefault(_module(name), []).append(name)
    for layer, names in unused.items():
        meaning = f"the loss does not depend on {_some(names)}: unused in the forward pass, or detached after it"
        fix = f"model.get_submodule({layer!r}).requires_grad_(False)  # or use it in forward"
        found.append(Finding("unused parameters", "warning", layer, float(len(names)), meaning, fix))
    return found


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
