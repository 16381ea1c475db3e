"""The tasks of other kinds than digits: what each model computes, against a slow or independent reading of it."""

import numpy as np
import pytest
import torch
from torch import nn

from thalweg.compare.task.builtin import TASKS, generated, sequences
from thalweg.compare.task.builtin.poisson import SCALE, relative_error


def test_the_bend_of_the_solution_is_its_second_derivative():
    model = TASKS["poisson"]().model().double()
    x = torch.linspace(0, 1, 9, dtype=torch.float64)[:, None].requires_grad_()
    u = model(x)[:, 1]
    first = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), x)[0]
    torch.testing.assert_close(model(x)[:, 0], -second[:, 0] / SCALE)
    assert u[0] == u[-1] == 0


def test_the_true_solution_solves_poissons_equation():
    test = TASKS["poisson"]().test
    x, (f, u) = test.tensors[0][:, 0].double(), test.tensors[1].double().T
    bend = np.gradient(np.gradient(u.numpy(), x.numpy()), x.numpy())
    np.testing.assert_allclose(-bend[4:-4], SCALE * f.numpy()[4:-4], atol=0.1)
    assert relative_error(test.tensors[1], test.tensors[1]) == 0


def test_the_gated_network_is_torchs():
    model = TASKS["recall"]().model().double()
    theirs = nn.GRU(sequences.SYMBOLS + 2, model.width, batch_first=True).double()
    with torch.no_grad():  # torch's z keeps the old state, as here; its biases are r, z, n too
        theirs.weight_ih_l0.copy_(model.input.weight)
        theirs.bias_ih_l0.copy_(model.input.bias)
        theirs.weight_hh_l0.copy_(model.state.weight)
        theirs.bias_hh_l0.copy_(model.state.bias)
    symbols = TASKS["recall"]().train.tensors[0][:5]
    states, _ = theirs(nn.functional.one_hot(symbols, sequences.SYMBOLS + 2).double())
    expected = model.output(states[:, -sequences.SHOWN :]).transpose(1, 2)
    torch.testing.assert_close(model(symbols), expected)


def test_what_is_recalled_is_what_was_shown():
    data, target = TASKS["recall"]().train.tensors
    assert torch.equal(data[:, : sequences.SHOWN], target)
    assert set(data[:, sequences.SHOWN :].unique().tolist()) == {sequences.SYMBOLS, sequences.SYMBOLS + 1}


def test_the_transformer_sees_no_later_character():
    model = TASKS["characters"]().model()
    text = TASKS["characters"]().train.tensors[0][:1].repeat(2, 1)
    text[1, 10:] = (text[1, 10:] + 1) % 5
    one, two = model(text)
    torch.testing.assert_close(one[:, :10], two[:, :10])
    assert not torch.allclose(one[:, 10:], two[:, 10:])


def test_no_sum_is_both_trained_on_and_tested():
    task = TASKS["modular-addition"]()
    sums = [{tuple(sorted(pair)) for pair in part.tensors[0].tolist()} for part in (task.train, task.valid, task.test)]
    assert sum(map(len, sums)) == len(set.union(*sums)) == generated.PRIME * (generated.PRIME + 1) // 2
    x, y = task.train.tensors
    assert torch.equal(x.sum(dim=1) % generated.PRIME, y)


def test_the_labels_of_the_noisy_digits_are_wrong_in_training_alone():
    noisy, clean = TASKS["digits-noisy"](), TASKS["digits"]()
    wrong = (noisy.train.tensors[1] != clean.train.tensors[1]).float().mean()
    assert 0.3 < wrong < 0.42  # a tenth of those drawn are right
    assert torch.equal(noisy.test.tensors[1], clean.test.tensors[1])


@pytest.mark.parametrize("name", ["deep-linear", "factorization", "digits-autoencoder", "digits-conv-norm", "recall"])
def test_the_loss_falls(name):
    task = TASKS[name]()
    torch.manual_seed(0)
    model, (x, y) = task.model(), (t[:64] for t in task.train.tensors)
    optimizer, losses = torch.optim.Adam(model.parameters(), 0.01), []
    for _ in range(30):
        losses.append(task.loss(model(x), y))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
