"""One module's own parameters drawn anew, in place, each with a row that says how."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from thalweg.initialization.effective_tensors import EffectiveTensor, effective_tensors
from thalweg.initialization.gains import UNKNOWN, gain_of
from thalweg.initialization.orthogonal import orthogonal_
from thalweg.initialization.schemes import Scheme
from thalweg.initialization.table import Row
from thalweg.initialization.weights import fans
from thalweg.tensors.layers import NORMS, TRANSPOSED, WEIGHTED, unit_blocks
from thalweg.tensors.private import own_parameters, own_reset

RECURRENT = (nn.RNNBase, nn.RNNCellBase)
GATED = (nn.LSTM, nn.LSTMCell, nn.GRU, nn.GRUCell)
Gain = float | str | None  # a number for all layers, "nonlinearity", or the published one


def drawn(
    module: nn.Module,
    nonlinearity: str | None,
    scheme: Scheme | None,
    gain: Gain,
    generator: Generator,
    own: Mapping[int, Tensor],
    rectifier_bias: float,
) -> Iterator[tuple[Tensor, Row]]:
    """Draws a module's own parameters and yields each with its row, whose name and shape are filled in later.

    Arguments:
        module: any module.
        nonlinearity: what follows it, where that is asked.
        scheme: None is the module's own.
        gain: of the scheme.
        generator: source of the draws, on the CPU.
        own: by their ids the parameters that no module before had.
        rectifier_bias: bias of a layer that feeds a rectifier.
    """
    kept = {key: p.detach().clone() for key, p in own.items() if not p.requires_grad}
    tensors = {name: tensor for name, tensor in effective_tensors(module).items() if id(tensor.params[0]) in own}
    known = isinstance(module, (*WEIGHTED, *RECURRENT, nn.MultiheadAttention))
    if scheme is None or not known:
        rows = _by_itself(module, tensors)
        buffers = module.buffers(recurse=False) if rows and not known else ()
        yield from ((buffer, Row("", "", "its module's own")) for buffer in buffers)
    elif isinstance(module, WEIGHTED):
        rows = _layer(module, tensors, nonlinearity, scheme, gain, generator, rectifier_bias)
    else:
        fill = partial(_recurrent, module) if isinstance(module, RECURRENT) else _attention
        usual = _gain(scheme, gain, None)
        rows = {name: fill(name, t.value, scheme, usual, generator) for name, t in tensors.items()}
    for name, row in rows.items():
        if tensors[name].write_back():
            yield from ((p, row) for p in tensors[name].params if id(p) not in kept)
    for key, value in kept.items():
        own[key].detach().copy_(value)


def _gain(scheme: Scheme, gain: Gain, nonlinearity: str | None) -> float:
    """Returns the gain of a layer; 1 for schemes that have none."""
    if not scheme.heeds:
        return 1.0
    if gain == "nonlinearity":
        return 1.0 if nonlinearity in (None, UNKNOWN) else gain_of(str(nonlinearity))
    return scheme.published if gain is None else float(gain)


def _by_itself(module: nn.Module, tensors: Mapping[str, EffectiveTensor]) -> dict[str, Row]:
    """Has the module draw by its own ``reset_parameters``, which does not reach what it computes from others."""
    reset = own_reset(module)
    if reset is None:
        return {}
    reset()
    own = f"{type(module).__name__.removeprefix('Parametrized')}'s own"
    rows = {name: Row("", "", own) for name in tensors if name in own_parameters(module)}
    for name in set(tensors) - set(rows):  # what is computed from others, as reset_parameters would have drawn it
        if isinstance(module, NORMS):
            tensors[name].value.fill_(float(name == "weight"))
        elif isinstance(module, WEIGHTED) and name == "weight":
            nn.init.kaiming_uniform_(tensors[name].value, 5**0.5)
        else:
            continue
        rows[name] = Row("", "", own)
    if isinstance(module, NORMS):
        rows |= {name: Row("", "", "0" if name == "bias" else "1") for name in rows}
    return rows


def _layer(
    module: Any,
    tensors: Mapping[str, EffectiveTensor],
    nonlinearity: str | None,
    scheme: Scheme,
    gain: Gain,
    generator: Generator,
    rectifier_bias: float,
) -> dict[str, Row]:
    """Fills weight and bias of a dense or convolution layer."""
    rows = {}
    if "weight" in tensors:
        blocks = unit_blocks(module, tensors["weight"].value)
        share = 1 / torch.Size(module.stride).numel() if isinstance(module, TRANSPOSED) else 1.0
        rows["weight"] = _draw(blocks, scheme, _gain(scheme, gain, nonlinearity), generator, nonlinearity, share)
    if "bias" in tensors:
        start = rectifier_bias if "relu" in str(nonlinearity) else 0.0
        tensors["bias"].value.fill_(start)
        rows["bias"] = Row("", "", f"{start:g}")
    return rows


def _attention(name: str, value: Tensor, scheme: Scheme, gain: float, generator: Generator) -> Row:
    """Fills one tensor of an attention module."""
    if value.dim() == 2:  # queries, keys and values are packed one below the other, or stand alone
        return _draw(list(value.chunk(3 if name == "in_proj_weight" else 1)), scheme, gain, generator)
    value.zero_()
    return Row("", "", "0")


def _recurrent(module: Any, name: str, value: Tensor, scheme: Scheme, gain: float, generator: Generator) -> Row:
    """Fills one tensor of a recurrent module, gate by gate."""
    size = int(module.hidden_size)
    if name.startswith("weight_ih"):
        return _draw(list(value.split(size)), scheme, gain, generator)
    if name.startswith("weight_hh"):
        for block in value.split(size):
            block.copy_(orthogonal_(torch.empty(block.shape), generator))
        return Row("", "", "orthogonal, gate by gate", None, 1.0, value.shape[1], size)
    if name.startswith("weight"):
        return _draw([value], scheme, gain, generator)
    value.zero_()
    keeps = isinstance(module, GATED) and name.startswith("bias_ih")
    if keeps:
        value.split(size)[1].fill_(1.0)  # of i, f, g, o and of r, z, n the second keeps the memory
    return Row("", "", "0, and 1 for the forget gate" if keeps else "0")


def _draw(
    blocks: list[Tensor],
    scheme: Scheme,
    gain: float,
    generator: Generator,
    nonlinearity: str | None = None,
    share: float = 1.0,
) -> Row:
    """Draws blocks of units; of a transposed convolution's fan-in a share meets in an output, 1/stride."""
    m, n = fans(blocks[0])
    stretched = gain * scheme.stretch(m, n, share)
    for block in blocks:
        if block.device.type == "cpu" and block.dtype == torch.float32 and block.is_contiguous():
            scheme.draw(block.detach(), generator, stretched)
        else:  # drawn on the CPU, the same for every device and layout
            wide = torch.promote_types(block.dtype, torch.complex64 if block.is_complex() else torch.float32)
            block.copy_(scheme.draw(torch.empty(block.shape, dtype=wide), generator, stretched))
    law = scheme.law(m, n, stretched)
    law = f"{law}, half of the variance imaginary" if blocks[0].is_complex() else law
    fan_in = m * share if (m * share) % 1 else int(m * share)
    return Row("", "", law, nonlinearity, gain if scheme.heeds else None, fan_in, n)
