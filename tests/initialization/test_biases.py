"""Biases of rectifiers and of the gates of recurrent networks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from thalweg.initialization import gate_biases_, rectifier_bias_

RECURRENT = [nn.LSTM, nn.GRU]
CELLS = [nn.LSTMCell, nn.GRUCell]


def test_rectifiers_start_active():
    layer = nn.Linear(3, 4)
    assert rectifier_bias_(layer.bias) is layer.bias
    torch.testing.assert_close(layer.bias.detach(), torch.full((4,), 0.1))
    assert rectifier_bias_(torch.empty(2), 0.25).tolist() == [0.25, 0.25]


@pytest.mark.parametrize("value", [0.0, -0.1, float("nan")])
def test_a_rectifiers_bias_must_be_positive(value):
    with pytest.raises(ValueError, match="must be positive"):
        rectifier_bias_(torch.empty(2), value)


def others(before, after, hidden):
    """Whether all but the second block of each bias is as before."""
    for name, p in before.items():
        same = torch.ones_like(p, dtype=torch.bool)
        if name.startswith("bias"):
            same[hidden : 2 * hidden] = False
        assert torch.equal(after[name][same], p[same]), name


def copy(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


@pytest.mark.parametrize("kind", RECURRENT)
@given(
    hidden=st.integers(2, 5),
    layers=st.integers(1, 3),
    both=st.booleans(),
    value=st.floats(-3, 3, width=32),
    p=st.data(),
)
@settings(max_examples=15, deadline=None)
def test_every_layer_and_direction_is_set_and_nothing_else(kind, hidden, layers, both, value, p):
    options = {"proj_size": p.draw(st.integers(0, hidden - 1))} if kind is nn.LSTM else {}
    module = kind(3, hidden, num_layers=layers, bidirectional=both, **options)
    before = copy(module)
    assert gate_biases_(module, value) is module
    after = copy(module)
    others(before, after, hidden)
    ends = [f"_l{i}{end}" for i in range(layers) for end in ([""] if not both else ["", "_reverse"])]
    for end in ends:
        total = after[f"bias_ih{end}"] + after[f"bias_hh{end}"]
        assert total[hidden : 2 * hidden].tolist() == [value] * hidden
    assert sum("bias_ih" in name for name in after) == len(ends)


@pytest.mark.parametrize("kind", CELLS)
def test_cells_are_set_too(kind):
    cell = kind(3, 4)
    before = copy(cell)
    gate_biases_(cell, 2.0)
    others(before, copy(cell), 4)
    assert (cell.bias_ih + cell.bias_hh)[4:8].tolist() == [2.0] * 4


def quiet(module):
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
    return gate_biases_(module)


def test_an_lstm_cell_keeps_a_sigmoid_of_the_value_of_its_memory():
    memory = torch.tensor([[2.0, -3.0]])
    _, after = quiet(nn.LSTMCell(3, 2))(torch.zeros(1, 3), (torch.zeros(1, 2), memory))
    torch.testing.assert_close(after, torch.tensor(1.0).sigmoid() * memory)


def test_a_gru_cell_keeps_a_sigmoid_of_the_value_of_its_state():
    state = torch.tensor([[2.0, -3.0]])
    torch.testing.assert_close(quiet(nn.GRUCell(3, 2))(torch.zeros(1, 3), state), torch.tensor(1.0).sigmoid() * state)


@pytest.mark.parametrize("kind", RECURRENT)
def test_networks_keep_it_step_by_step_in_both_directions(kind):
    network = quiet(kind(3, 2, num_layers=2, bidirectional=True))
    start = torch.randn(4, 1, 2)
    hidden = (torch.zeros(4, 1, 2), start) if kind is nn.LSTM else start
    _, state = network(torch.zeros(5, 1, 3), hidden)
    if kind is nn.LSTM:
        # The output gate feeds half of tanh(c) to the candidate of no one: all other weights are 0.
        state = state[1]
    torch.testing.assert_close(state, torch.tensor(1.0).sigmoid() ** 5 * start)


@pytest.mark.parametrize("kind", RECURRENT + CELLS)
def test_a_network_without_biases_is_refused(kind):
    with pytest.raises(ValueError, match=f"this {kind.__name__} has no biases to set: build it with bias=True"):
        gate_biases_(kind(3, 2, bias=False))


@pytest.mark.parametrize("module", [nn.RNN(3, 2), nn.RNNCell(3, 2), nn.Sequential(nn.LSTM(3, 2))])
def test_modules_without_such_gates_are_refused(module):
    with pytest.raises(TypeError, match=f"{type(module).__name__} has no gates known here"):
        gate_biases_(module)
