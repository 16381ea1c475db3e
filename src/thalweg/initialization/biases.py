"""Starts of biases that keep units from beginning shut: gates that remember, and rectifiers that are on."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from thalweg.tensors.ranges import is_within

M = TypeVar("M", bound=nn.Module)

# Both packed biases hold one block of hidden_size for each gate: i, f, g, o and r, z, n. The second keeps the memory.
_BLOCKS = {nn.LSTM: 4, nn.LSTMCell: 4, nn.GRU: 3, nn.GRUCell: 3}


@torch.no_grad()
def gate_biases_(module: M, value: float = 1.0) -> M:
    """Sets the bias of the gate that keeps the memory, b_f of an LSTM or b_z of a GRU, in place; returns the module.

    LSTM: c' = f⊙c + i⊙g with f = σ(… + b_f), torch's order i, f, g, o. GRU: h' = (1−z)⊙n + z⊙h with
    z = σ(… + b_z), torch's order r, z, n: in this form, too, it is a positive bias that keeps (where a paper swaps z
    and 1−z, it is a negative one). torch adds up two biases, b_ih and b_hh: the first becomes the value and the
    second 0. All other biases stay as they are.

    Arguments:
        module: ``nn.LSTM``, ``nn.LSTMCell``, ``nn.GRU`` or ``nn.GRUCell``; all layers and both directions are set.
        value: the gate's total bias; at 1, with all else near 0, it keeps σ(1) ≈ 0.73 of the memory a step.

    Raises:
        TypeError: another module.
        ValueError: a module without biases.

    >>> lstm = gate_biases_(nn.LSTM(3, 2))
    >>> (lstm.bias_ih_l0 + lstm.bias_hh_l0)[2:4].tolist()
    [1.0, 1.0]

    Source: Deep Learning, §8.4 and §10.10.1; Gers, Schmidhuber & Cummins 2000; Jozefowicz, Zaremba & Sutskever 2015.
    """
    blocks = next((count for kind, count in _BLOCKS.items() if isinstance(module, kind)), None)
    if blocks is None:
        raise TypeError(f"{type(module).__name__} has no gates known here: pass an LSTM, LSTMCell, GRU or GRUCell")
    biases = {name: p for name, p in module.named_parameters(recurse=False) if name.startswith("bias_")}
    if not biases:
        raise ValueError(f"this {type(module).__name__} has no biases to set: build it with bias=True")
    for name, bias in biases.items():
        bias.chunk(blocks)[1].fill_(value if name.startswith("bias_ih") else 0.0)
    return module


@torch.no_grad()
def rectifier_bias_(bias: Tensor, value: float = 0.1) -> Tensor:
    """Fills the bias of a layer of rectifiers in place with one small positive value; returns it.

    The weights break the symmetry: unlike :func:`~thalweg.initialization.constant_` on a weight, this one is to train.
    Not for weights drawn by a scheme that expects no strong input from the biases, such as Sussillo's random walk.

    Arguments:
        bias: any shape.
        value: the value, above 0.

    Raises:
        ValueError: a value that is not positive.

    >>> rectifier_bias_(torch.empty(2))
    tensor([0.1000, 0.1000])

    Source: Deep Learning, §8.4 (avoiding saturation at initialization).
    """
    if not (is_within(value, 0) and value > 0):
        raise ValueError(f"the value must be positive to keep rectifiers active, not {value}")
    return bias.fill_(value)
