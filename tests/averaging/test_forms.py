"""An average and its model keep one form, or one line says where they do not, before anything changes."""

import pytest
import torch
from torch import nn

from thalweg.averaging import EMA, Average, Polyak


def emptied(t, size=0):
    t = t.detach().clone()
    t.untyped_storage().resize_(size)
    return t


WRONG = {
    "resized": (lambda t: torch.ones(5, 4), "(5, 4)"),
    "one row, which broadcasts": (lambda t: torch.ones(1, 4), "(1, 4)"),
    "a scalar, which broadcasts": (lambda t: torch.ones(()), "()"),
    "transposed": (lambda t: t.detach().T.clone(), "(4, 3)"),
    "flattened": (lambda t: t.detach().flatten(), "(12,)"),
    "memory given back": (emptied, "0 bytes of memory where it needs 48"),
    "a part of its memory": (lambda t: emptied(t, 16), "16 bytes of memory where it needs 48"),
}


def of_a_layer(dtype=None):
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    average = Average(model, EMA(0.9), dtype=dtype)
    average.update()
    return model, average


def refused(average, word, *calls):
    step, means = average.step, {k: v.clone() for k, v in average.means.items() if k == "bias"}
    for call in calls:
        with pytest.raises(RuntimeError, match="make a new average") as raised:
            call()
        assert word in str(raised.value)
    assert average.step == step
    assert torch.equal(average.means["bias"], means["bias"])


@pytest.mark.parametrize(("change", "word"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("dtype", [None, torch.float64, torch.bfloat16])
def test_a_model_changed_in_place_is_refused(change, word, dtype):
    model, average = of_a_layer(dtype)
    model.weight.data = change(model.weight)
    refused(average, word, average.update, average.values, average.applied().__enter__)


@pytest.mark.parametrize("wrong", [3.0, torch.ones(1).expand(3, 4), torch.ones(12), emptied(torch.ones(3, 4))])
def test_a_mean_changed_by_hand_is_refused(wrong):
    _, average = of_a_layer()
    average.means["weight"] = wrong
    refused(average, "'weight' is float32 (3, 4)", average.update)


@pytest.mark.parametrize("buffers", ["copy", "average"])
@pytest.mark.parametrize("now", [torch.zeros(1), torch.zeros(4), None])
def test_a_buffer_of_another_shape_is_refused(buffers, now):
    model = nn.BatchNorm1d(3)
    average = Average(model, EMA(0.9), buffers=buffers)
    average.update()
    model.running_mean = now
    refused(average, "'running_mean' is", average.update)


def test_a_model_of_another_type_or_place_in_memory_goes_on():
    model, average = of_a_layer()
    model.double()
    average.update()
    model.weight.data = torch.ones(30, dtype=torch.float64)[5:17].view(3, 4)
    average.update()
    assert average.step == 3


@pytest.mark.parametrize("view", [lambda z: z.conj(), lambda z: z.conj().imag])
def test_lazy_conjugates_and_negatives_are_averaged_as_their_numbers(view):
    torch.manual_seed(0)
    points, z = [torch.randn(3, dtype=torch.complex64) for _ in range(3)], torch.zeros(3, dtype=torch.complex64)
    average = Average([view(z)], Polyak())
    for point in points:
        z.copy_(point)
        average.update()
    torch.testing.assert_close(average.means["0"], torch.stack([view(p).clone() for p in points]).mean(0))


@pytest.mark.parametrize(
    "wrong", [{"weight": 3.0}, {"weight": emptied(torch.ones(3, 4), 4)}, {"weight": torch.ones(1)}]
)
def test_a_state_of_another_form_is_refused_whole(wrong):
    _, average = of_a_layer()
    state = average.state_dict()
    before = {k: v.clone() for k, v in average.means.items()}
    with pytest.raises(ValueError, match="the state is of another model"):
        average.load_state_dict({**state, "means": {**state["means"], **wrong}})
    with pytest.raises(ValueError, match="the state's step is -1"):
        average.load_state_dict({**state, "step": -1})
    torch.testing.assert_close(dict(average.means), before, rtol=0, atol=0)
