"""A layer that stands several times in one container, as ``[layer] * 4`` makes it: its copies are one."""

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.observe import Seen

MOST = 1


def shared_layer(seen: Seen) -> list[Finding]:
    """Finds modules with parameters that one part of the model holds under several names.

    A layer that is called several times on purpose has one name; weights that are tied are one parameter in two
    modules.

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(*[nn.Linear(3, 3)] * 4)
    >>> found = shared_layer(observe(net, (torch.randn(9, 3), torch.randn(9, 3)), nn.functional.mse_loss))
    >>> [(f.kind, f.layer, f.figure) for f in found]
    [('shared layer', '0', 4.0)]

    Source: Deep Learning, §9.2 (sharing, where it is meant).
    """
    found = []
    for name, parent in seen.model.named_modules():
        places: dict[int, list[str]] = {}
        for own, child in parent._modules.items():
            if child is not None and next(child.parameters(), None) is not None:
                places.setdefault(id(child), []).append(f"{name}.{own}" if name else own)
        for same in places.values():
            if len(same) > MOST:
                meaning = f"{', '.join(same)} are the same layer: they share all parameters"
                copies = "; ".join(
                    f"model.set_submodule({other!r}, copy.deepcopy(model.get_submodule({same[0]!r})))"
                    for other in same[1:]
                )
                fix = f"import copy; {copies}"
                found.append(
                    Finding("shared layer", "warning", same[0], float(len(same)), meaning, fix, threshold=float(MOST))
                )
    return found
