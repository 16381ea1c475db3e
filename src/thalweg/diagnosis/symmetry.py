"""Symmetric units: alike in what comes in and in what goes out, they get the same gradient and stay alike for ever."""

import torch
from torch import Tensor, nn

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.mends import redraw
from thalweg.diagnosis.observe import Seen, by_unit
from thalweg.diagnosis.watch import Layer
from thalweg.tensors.layers import WEIGHTED, unit_blocks


def symmetry(seen: Seen) -> list[Finding]:
    """Finds units of one layer with equal incoming weights and bias whose outgoing weights are equal too.

        w_i = w_j,  b_i = b_j,  ∂J/∂a_i = ∂J/∂a_j for every example

    The last is what equal outgoing weights come to, and holds whatever layers follow. Output units, which the
    targets tell apart, are left out.

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
        if layer.gradient is None or not layer.feeds:
            continue
        gradient = by_unit(layer, layer.gradient).T
        extra = _norm(seen, layer)
        first, alike, units = 0, 0, 0
        for block in _incoming(layer):
            rows = block if extra is None else torch.cat([block, extra[first : first + len(block)]], dim=1)
            alike += _alike(rows, gradient[first : first + len(block)])
            first, units = first + len(block), units + len(block)
        if alike:
            meaning = f"{alike} of {units} units start equal to another one and will stay equal"
            how = redraw(layer, safe=alike == units)
            found.append(Finding("symmetric units", "error", layer.name, float(alike), meaning, *how))
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
    if not isinstance(module, WEIGHTED):
        return []
    blocks = [block.flatten(1) for block in unit_blocks(module, module.weight.detach())]
    if module.bias is None:
        return blocks
    biases = module.bias.detach().split(len(blocks[0]))
    return [torch.cat([block, bias[:, None]], dim=1) for block, bias in zip(blocks, biases, strict=True)]


def _norm(seen: Seen, layer: Layer) -> Tensor | None:
    """Returns the scale and shift ``(units, 2)`` of the normalization that follows directly."""
    norm = seen.norms.get(layer.norm)
    if norm is None or norm.module.weight is None:
        return None
    return torch.stack([norm.module.weight.detach(), norm.module.bias.detach()], dim=1)


def _alike(rows: Tensor, gradients: Tensor) -> int:
    """Returns how many of the units have another with equal rows and, up to rounding, equal gradients."""
    if len(rows[:, :8].unique(dim=0)) == len(rows):  # a few numbers tell units apart, and that is the rule
        return 0
    _, kind, counts = rows.unique(dim=0, return_inverse=True, return_counts=True)
    total, tolerance = 0, 1e-5 * float(gradients.abs().max())
    for k in (counts > 1).nonzero().flatten().tolist():
        members = gradients[kind == k]
        for i, one in enumerate(members):
            apart = (members - one).abs().flatten(1).amax(1) <= tolerance
            apart[i] = False
            total += int(apart.any())
    return total
