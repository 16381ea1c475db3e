"""The form of a model that lanes stack: batch normalizations and recurrent layers in operations that vmap takes.

Values are the same to rounding, and names in the state dict are the same. A recurrent layer is unrolled over time, for
which torch has one kernel: stacking pays for small layers alone, and is measured.
"""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from thalweg.normalization import convert_batch_norm
from thalweg.normalization.convert import TORCHS
from thalweg.tensors.private import ConvolutionBase, own_parameters

M = TypeVar("M", bound=nn.Module)
States = tuple[Tensor, ...]  # of a layer in one direction: h, and c of an LSTM


class Unrolled(nn.RNNBase):
    """A recurrent layer that is unrolled over time, of any number of layers and directions."""

    def flatten_parameters(self) -> None:
        """Does nothing: no kernel asks for the weights in one piece."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Returns output and last states, as torch's layer does."""
        if isinstance(input, PackedSequence):
            raise NotImplementedError("a packed sequence of lengths of its own cannot be stacked")
        batched, several = input.dim() == 3, isinstance(hx, tuple)
        given = () if hx is None else tuple(h if batched else h.unsqueeze(1) for h in (hx if several else (hx,)))
        x = input if batched else input.unsqueeze(1)
        x = x.transpose(0, 1) if batched and self.batch_first else x
        directions, last = 1 + self.bidirectional, []
        given = given or (x.new_zeros(self.num_layers * directions, x.shape[1], self.hidden_size),) * self._states
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(directions):
                states = tuple(h[layer * directions + direction] for h in given)
                output, states = self._unroll(x, states, f"l{layer}{'_reverse' * direction}", direction == 1)
                outputs.append(output)
                last.append(states)
            x = outputs[0] if directions == 1 else torch.cat(outputs, dim=-1)
            if self.dropout and layer + 1 < self.num_layers:
                x = F.dropout(x, self.dropout, self.training)
        found = tuple(torch.stack(one) if batched else torch.stack(one).squeeze(1) for one in zip(*last, strict=True))
        x = x.transpose(0, 1) if batched and self.batch_first else x if batched else x.squeeze(1)
        return x, found if len(found) > 1 else found[0]

    @property
    def _states(self) -> int:
        return 2 if isinstance(self, nn.LSTM) else 1

    def _unroll(self, x: Tensor, states: States, name: str, reverse: bool) -> tuple[Tensor, States]:
        """Returns the outputs ``(time, batch, hidden)`` of one layer in one direction, and its last states."""
        own = own_parameters(self)
        inputs = F.linear(x, own[f"weight_ih_{name}"], own.get(f"bias_ih_{name}")).unbind(0)  # type: ignore[arg-type]
        weight, bias, outputs = own[f"weight_hh_{name}"], own.get(f"bias_hh_{name}"), []
        for of_input in reversed(inputs) if reverse else inputs:
            states = self._step(of_input, F.linear(states[0], weight, bias), states)  # type: ignore[arg-type]
            outputs.append(states[0])
        return torch.stack(outputs[::-1] if reverse else outputs), states

    def _step(self, of_input: Tensor, of_state: Tensor, states: States) -> States:
        """Returns the states after a step, from what the weights make of input and state."""
        raise NotImplementedError


class UnrolledRNN(Unrolled, nn.RNN):
    """h ← tanh(W x + U h), or the rectifier in place of tanh."""

    def _step(self, of_input: Tensor, of_state: Tensor, states: States) -> States:
        total = of_input + of_state
        return (total.tanh() if self.nonlinearity == "tanh" else total.relu(),)


class UnrolledGRU(Unrolled, nn.GRU):
    """h ← (1 − z) n + z h with n = tanh(W x + r U h)."""

    def _step(self, of_input: Tensor, of_state: Tensor, states: States) -> States:
        (r, z, n), (own_r, own_z, own_n) = of_input.chunk(3, -1), of_state.chunk(3, -1)
        z, n = torch.sigmoid(z + own_z), torch.tanh(n + torch.sigmoid(r + own_r) * own_n)
        return (n + z * (states[0] - n),)


class UnrolledLSTM(Unrolled, nn.LSTM):
    """c ← f c + i g; h ← o tanh(c)."""

    def _step(self, of_input: Tensor, of_state: Tensor, states: States) -> States:
        i, f, g, o = (of_input + of_state).chunk(4, -1)
        c = torch.sigmoid(f) * states[1] + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


UNROLLED: dict[type[nn.Module], type[Unrolled]] = {nn.RNN: UnrolledRNN, nn.GRU: UnrolledGRU, nn.LSTM: UnrolledLSTM}


def stacked_form(model: M) -> M:
    """Changes a model in place to the form that lanes stack, and returns it.

    Projected recurrent layers, subclasses of torch's and those with parametrized weights stay as they are.

    >>> stacked_form(nn.Sequential(nn.LSTM(2, 3)))[0]
    UnrolledLSTM(2, 3)
    """
    model = convert_batch_norm(model)
    for module in model.modules():
        if type(module) in UNROLLED and not module.proj_size:
            module.__class__ = UNROLLED[type(module)]
    return model


def swapped_kinds(model: nn.Module) -> list[str]:
    """Returns what of torch's a model has that has another form in lanes, in words."""
    norms = any(type(module) in TORCHS for module in model.modules())
    recurrent = dict.fromkeys(type(m).__name__ for m in model.modules() if type(m) in UNROLLED)
    return ["batch normalization"] * norms + list(recurrent)


def is_recurrent(model: nn.Module) -> bool:
    """Says whether a model has recurrent layers, which lanes unroll."""
    return any(isinstance(module, nn.RNNBase) for module in model.modules())


def usually_slow(model: nn.Module, device: torch.device) -> str:
    """Returns what a model has that is slow when stacked on a device, in a word."""
    if device.type != "cpu":
        return ""
    if any(isinstance(module, ConvolutionBase) for module in model.modules()):
        return "convolutions"
    return "recurrent layers" if is_recurrent(model) else ""
