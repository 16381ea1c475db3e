"""Symmetric units: alike in what comes in and in what goes out, they get the same gradient and stay alike for ever."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from thalweg.diagnosis.findings import Finding, Severity
from thalweg.diagnosis.fixes import redraw
from thalweg.diagnosis.forward_recorder import Layer
from thalweg.diagnosis.observe import Seen, by_unit
from thalweg.tensors.layers import WEIGHTED, unit_blocks

SHARE = 0.5


def symmetry(seen: Seen) -> list[Finding]:
    """Finds units of one layer with equal incoming weights and bias: an error where they will stay equal.

        w_i = w_j,  b_i = b_j,  and for an error  ∂J/∂a_i = ∂J/∂a_j for every example

    The last is what equal outgoing weights come to, and holds whatever layers follow. Where it does not hold, the
    units part as they are trained, but start as one: a warning from half of the layer's units on. Units whose
    weights are all zero and output units, which the targets tell apart, are left out.

    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    >>> for p in net.parameters():
    ...     _ = nn.init.constant_(p, 0.1)
    >>> [f.layer for f in symmetry(observe(net, (torch.randn(8, 3), torch.randn(8, 1)), nn.functional.mse_loss))]
    ['0']

    Source: Deep Learning, §8.4 (p. 301: initial parameters need to break symmetry).
    """
    found = []
    for layer in seen.layers.values():
        blocks = _incoming(layer)
        units = sum(map(len, blocks))
        if layer.gradient is None or not layer.feeds or units < 2:
            continue
        equal = sum(_equal(block) for block in blocks)
        stay = _stay(seen, layer, blocks) if any(len(b.unique(dim=0)) < len(b) for b in blocks) else 0
        if stay or equal >= max(SHARE * units, 2):
            many = stay or equal
            end = "will stay equal" if stay else "act as one unit at the first step"
            meaning = f"{many} of {units} units start equal to another unit and {end}"
            choices = tuple(redraw(layer, safe=many == units))
            severity: Severity = "error" if stay else "warning"
            bound = 0.0 if stay else SHARE * units
            found.append(
                Finding("symmetric units", severity, layer.name, float(many), meaning, threshold=bound, choices=choices)
            )
    return found


def _incoming(layer: Layer) -> list[Tensor]:
    """Returns blocks ``(units, numbers)`` of what comes into the units, one a group."""
    module = layer.module
    if isinstance(module, nn.RNNBase):
        if module.proj_size:
            return []
        end = f"_l{module.num_layers - 1}"  # the layer whose units are the output; its forward half
        own = {n: p.detach() for n, p in module.named_parameters(recurse=False) if n.endswith(end)}
        size = module.hidden_size
        return [torch.cat([part for p in own.values() for part in p.reshape(len(p), -1).split(size)], dim=1)]
    if isinstance(module, nn.MultiheadAttention):
        return [] if module.in_proj_weight is None else list(module.in_proj_weight.detach().chunk(3))
    if not isinstance(module, WEIGHTED):
        return _of_matrix(layer)
    blocks = [block.flatten(1) for block in unit_blocks(module, module.weight.detach())]
    if module.bias is None:
        return blocks
    biases = module.bias.detach().split(len(blocks[0]))
    return [torch.cat([block, bias[:, None]], dim=1) for block, bias in zip(blocks, biases, strict=True)]


def _of_matrix(layer: Layer) -> list[Tensor]:
    """Returns the rows of a module of someone's own with one matrix, whichever way round it is."""
    matrices = [p.detach() for p in layer.module.parameters(recurse=False) if p.dim() == 2]
    if len(matrices) != 1 or layer.received is None:
        return []
    sizes = layer.output.shape[-1], layer.received.shape[-1]
    return [m for m in (matrices[0], matrices[0].T) if m.shape == sizes][:1]


def _norm(seen: Seen, layer: Layer) -> Tensor | None:
    """Returns the scale and shift ``(units, 2)`` of the normalization that follows directly."""
    norm = seen.norms.get(layer.norm)
    if norm is None or norm.module.weight is None:
        return None
    return torch.stack([norm.module.weight.detach(), norm.module.bias.detach()], dim=1)


def _equal(rows: Tensor) -> int:
    """Returns how many rows are not zero and have their equal."""
    if rows.shape[1] < 2 or len(rows[:, :8].unique(dim=0)) == len(rows):  # a few numbers tell most apart
        return 0
    _, kind, counts = rows.unique(dim=0, return_inverse=True, return_counts=True)
    return int(((counts[kind] > 1) & rows.any(1)).sum())


def _stay(seen: Seen, layer: Layer, blocks: Sequence[Tensor]) -> int:
    """Returns how many units have another with equal rows and, up to rounding, equal gradients."""
    if isinstance(layer.module, nn.MultiheadAttention) or layer.gradient is None:
        return 0
    gradient, extra = by_unit(layer, layer.gradient).T, _norm(seen, layer)
    first, total, tolerance = 0, 0, 1e-5 * float(layer.gradient.abs().max())
    for block in blocks:
        own = slice(first, first + len(block))
        rows = block if extra is None else torch.cat([block, extra[own]], dim=1)
        first += len(block)
        _, kind, counts = rows.unique(dim=0, return_inverse=True, return_counts=True)
        for k in (counts > 1).nonzero().flatten().tolist():
            members = gradient[own][kind == k]
            for i, one in enumerate(members):
                apart = (members - one).abs().flatten(1).amax(1) <= tolerance
                apart[i] = False
                total += int(apart.any())
    return total
