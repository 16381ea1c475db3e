"""Parameters that will not train: frozen, or not used by the loss."""

from collections.abc import Mapping, Sequence

from thalweg.diagnosis.cut_gradient import behind_cuts
from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.observe import Seen


def untrained(seen: Seen) -> list[Finding]:
    """Finds frozen layers, and layer by layer the parameters that the loss does not use.

    An error where nothing is trained. The first layers are frozen on purpose where a model is transferred, and single
    parameters as fixed positions or features are, and so are layers beside a trained one that reads the same, all
    layers of one name, as those that adapters follow, and more than a third of all layers: these give a note. A warning
    is for a layer with trained ones before it, and for a first one of three or more that is frozen alone.

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    >>> _ = net[2].requires_grad_(False)
    >>> found = untrained(observe(net, (torch.randn(9, 3), torch.randn(9, 1)), nn.functional.mse_loss))
    >>> [(f.kind, f.severity, f.layer, f.figure) for f in found]
    [('frozen parameters', 'warning', '2', 2.0)]

    Source: Deep Learning, §8.7.4 (layers kept fixed on purpose).
    """
    return [*_frozen(seen), *_unused(seen)]


def _frozen(seen: Seen) -> list[Finding]:
    frozen = [name for name, p in seen.model.named_parameters() if not p.requires_grad]
    kind = "frozen parameters"
    if frozen and not seen.gradients:
        fix = "model.requires_grad_(True)"
        return [Finding(kind, "error", "", float(len(frozen)), "no parameter is trained", fix, threshold=0.0)]
    held = [all(not p.requires_grad for p in layer.module.parameters()) for layer in seen.layers.values()]
    names = list(seen.layers)
    start = held.index(False) if False in held else len(held)
    late = [name for name, is_held in zip(names[start:], held[start:], strict=True) if is_held]
    if not late and start == 1 and len(names) >= 3:
        late = names[:1]
    beside = {layer.reads for layer, is_held in zip(seen.layers.values(), held, strict=True) if not is_held}
    if 3 * sum(held) > len(names):
        late = []
    late = [
        name
        for name in late
        if seen.layers[name].reads not in beside and not _throughout(name, dict(zip(names, held, strict=True)))
    ]
    found = []
    for name in late:
        own = [n for n in frozen if n.startswith(f"{name}.")]
        meaning = f"it is not trained, while others are: {_some(own)}"
        fix = f"model.get_submodule({name!r}).requires_grad_(True)  # unless this is intended"
        found.append(Finding(kind, "warning", name, float(len(own)), meaning, fix, threshold=0.0))
    rest = [n for n in frozen if not any(n.startswith(f"{name}.") for name in late)]
    if rest:
        meaning = f"not trained, while others are: {_some(rest)}"
        fix = f"model.get_submodule({_module(rest[0])!r}).requires_grad_(True)  # unless this is intended"
        found.append(Finding(kind, "note", _module(rest[0]), float(len(rest)), meaning, fix))
    return found


def _throughout(name: str, held: Mapping[str, bool]) -> bool:
    """Says whether there are several layers called so, in as many parts of the model, and all are frozen."""
    called = name.rpartition(".")[2]
    alike = [is_held for other, is_held in held.items() if other.rpartition(".")[2] == called]
    return len(alike) > 1 and all(alike) and not called.isdigit()


def _unused(seen: Seen) -> list[Finding]:
    found = []
    unused: dict[str, list[str]] = {}
    cut = behind_cuts(seen)
    for name, gradient in seen.gradients.items():
        if gradient is None and _module(name) not in cut:
            unused.setdefault(_module(name), []).append(name)
    for layer, names in unused.items():
        meaning = f"the loss does not depend on {_some(names)}: the forward pass does not use them"
        fix = f"model.get_submodule({layer!r}).requires_grad_(False)  # or use it in forward"
        found.append(Finding("unused parameters", "warning", layer, float(len(names)), meaning, fix, threshold=0.0))
    return found


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
