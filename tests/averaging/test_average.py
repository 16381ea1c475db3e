"""What a user of an average relies on: swapping, saving, following, and clear refusals."""

import copy as copying
import io
import re

import pytest
import torch
from torch import nn

from tests.averaging.points import copy, equal, net, train, trainable, walk
from thalweg import optim
from thalweg.averaging import EMA, Average, Polyak

KINDS = [Polyak(), Polyak(start=4), EMA(0.8), EMA(0.8, "warmup"), EMA(0.8, "none", start=2)]


def saved(average):
    """Returns the state as it comes back from a file."""
    file = io.BytesIO()
    torch.save(average.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_the_average_stands_within_and_everything_is_back_after():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    average = Average(model, EMA(0.5))
    average.follow(optimizer)
    train(model, optimizer, 5)
    before, grads = copy(model), [p.grad.clone() for p in trainable(model)]
    storage = [p.data_ptr() for p in model.parameters()]
    with average.applied():
        assert all(torch.equal(dict(model.named_parameters())[n], m) for n, m in average.means.items())
        assert not equal(copy(model), before)
        assert storage == [p.data_ptr() for p in model.parameters()]
        model(torch.ones(4, 3)).sum().backward()  # moves running statistics and makes gradients
    assert equal(copy(model), before)
    assert all(torch.equal(p.grad, g) for p, g in zip(trainable(model), grads, strict=True))


def test_an_error_within_puts_everything_back_and_the_average_goes_on():
    model = net()
    average = Average(model, Polyak())
    average.update()
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), 2)
    before = copy(model)
    with pytest.raises(KeyError, match="mine"), average.applied():
        raise KeyError("mine")
    assert equal(copy(model), before)
    average.update()
    with average.applied():
        pass
    assert average.step == 2


@pytest.mark.parametrize("change", ["step", "load"])
def test_training_and_loading_within_are_refused_and_undone(change):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    average = Average(model, EMA(0.5))
    train(model, optimizer, 2)
    before = copy(model)
    with pytest.raises(RuntimeError, match=r"changed within applied\(\)"), average.applied():
        train(model, optimizer, 1) if change == "step" else model.load_state_dict(before)
    assert equal(copy(model), before)


def test_within_applied_no_average_of_the_parameters_is_updated_or_applied():
    model = net()
    one, other = Average(model, Polyak()), Average(model[0], EMA(0.9))
    apart = Average(nn.Linear(1, 1), Polyak())
    with one.applied():
        for average in (one, other):
            with pytest.raises(
                RuntimeError, match=r"update\(\) was called within applied\(\), .*: leave applied\(\) first"
            ):
                average.update()
            with pytest.raises(RuntimeError, match=r"applied\(\) was called within applied\(\)"), average.applied():
                pass
        assert one.step == other.step == 0
        with apart.applied():
            apart_values = apart.values()
    assert equal(apart_values, apart.values())
    with other.applied():
        other.values()


def test_a_model_loads_values_as_its_own_and_then_is_what_is_applied():
    model = net()
    model.add_module("tied", nn.Linear(3, 4))
    model.tied.weight = model[0].weight
    average = Average(model, EMA(0.5), buffers="average")
    for _ in walk(trainable(model), 3):
        average.update()
    other = net()
    other.add_module("tied", nn.Linear(3, 4))
    other.load_state_dict(average.values())
    with average.applied():
        assert equal(copy(model), copy(other))
        assert equal(copy(model), average.values())
    assert not equal(copy(model), average.values())
    average.values()["0.bias"].zero_()
    assert average.means["0.bias"].any()


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float64])
def test_a_resumed_run_goes_on_bit_for_bit(kind, dtype):
    model = net()
    whole = Average(model, kind, dtype=dtype, buffers="average")
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    handle = whole.follow(optimizer)
    train(model, optimizer, 6)
    handle.remove()

    again = net()
    halves = [Average(again, kind, dtype=dtype, buffers="average") for _ in range(2)]
    optimizer = optim.Adam(again.parameters(), lr=0.05)
    draws = torch.Generator().manual_seed(0)
    for i in range(6):
        optimizer.zero_grad()
        again(torch.randn(8, 3, generator=draws)).square().mean().backward()
        optimizer.step()
        halves[i >= 3].update()
        if i == 2:
            halves[1].load_state_dict(saved(halves[0]))
    assert halves[1].step == whole.step == 6
    assert equal(halves[1].means, whole.means)
    assert equal(halves[1].values(), whole.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["means"].pop("0.bias"), "of another model: it has no '0.bias', not float32 (4,)"),
        (lambda s: s["means"].update(extra=torch.ones(1)), "it has float32 (1,) 'extra', not none"),
        (
            lambda s: s["means"].update({"3.weight": torch.ones(2, 5)}),
            "it has float32 (2, 5) '3.weight', not float32 (2, 4)",
        ),
        (lambda s: s["means"].update({"0.bias": torch.ones(4).double()}), "it has float64 (4,) '0.bias', not"),
        (lambda s: s["copies"].pop("1.num_batches_tracked"), "it has no '1.num_batches_tracked'"),
        (lambda s: s["averaging"].update(decay=0.99), "'decay': 0.99"),
        (lambda s: s.pop("step"), "not the state of an average: it has ['averaging', 'copies', 'generator'"),
    ],
)
def test_another_models_state_is_refused_and_nothing_changes(change, words):
    model = net()
    average = Average(model, EMA(0.9), buffers="average")
    average.update()
    before = copying.deepcopy(average.state_dict())
    given = copying.deepcopy(before)
    for tensor in given["means"].values():
        tensor.add_(1)
    change(given)
    with pytest.raises(ValueError, match=re.escape(words)):
        average.load_state_dict(given)
    assert equal(average.means, before["means"])
    assert average.step == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: optim.RMSProp(p, lr=0.01),
    ],
)
def test_following_is_updating_after_each_step_until_the_handle_is_removed(make):
    model = net()
    optimizer = make(model.parameters())
    following, called = Average(model, EMA(0.7)), Average(model, EMA(0.7))
    handle = following.follow(optimizer)
    for seed in range(3):
        train(model, optimizer, 1, seed)
        called.update()
    handle.remove()
    train(model, optimizer, 1)
    assert following.step == 3
    assert equal(following.means, called.means)


def test_following_goes_with_an_optimizer_that_evaluates_several_times_a_step():
    w = nn.Parameter(torch.tensor([3.0, -1.0]))
    optimizer = optim.LBFGS([w])
    average = Average([w], Polyak())
    average.follow(optimizer)

    def closure():
        optimizer.zero_grad()
        loss = (w**4).sum()
        loss.backward()
        return loss

    points = []
    for _ in range(3):
        optimizer.step(closure)
        points.append(w.detach().clone())
    torch.testing.assert_close(average.means["0"], sum(points) / 3)


def test_following_goes_within_a_compiled_step():
    torch._dynamo.reset()
    one, two = net(), net()
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (one, two)]
    averages = [Average(m, EMA(0.9, start=2)) for m in (one, two)]
    for average, optimizer in zip(averages, optimizers, strict=True):
        average.follow(optimizer)
    plain = optimizers[0].step
    captured = torch.compile(plain, backend="aot_eager")
    for seed in range(8):
        train(two, optimizers[1], 1, seed)
        optimizers[0].zero_grad()
        one(torch.randn(8, 3, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
        captured()
    assert averages[0].step == averages[1].step == 8
    for name, mean in averages[0].means.items():
        torch.testing.assert_close(mean, averages[1].means[name])


def test_frozen_parameters_are_left_out_and_stay():
    model = net()
    average = Average(model, EMA(0.9))
    assert list(average.means) == ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight"]
    frozen = model[3].bias.clone()
    train(model, torch.optim.SGD(trainable(model), lr=0.1), 2)
    average.update()
    with average.applied():
        assert torch.equal(model[3].bias, frozen)
    model[0].bias.requires_grad_(False)  # frozen later: its average goes on
    average.update()


def added(model):
    model.add_module("head", nn.Linear(2, 2))


def replaced(model):
    model[3] = nn.Linear(4, 2)


def exchanged(model):
    model[0].weight = nn.Parameter(torch.zeros(4, 3))


def exchanged_for_a_frozen_one(model):
    model[0].weight = nn.Parameter(torch.zeros(4, 3), requires_grad=False)


def unfrozen(model):
    model[3].bias.requires_grad_()


def removed(model):
    model[0].bias = None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            added,
            "'head.weight' was added, or began to require gradients, after the average was made: make a new one",
        ),
        (replaced, "parameter '3.weight' was replaced"),
        (exchanged, "parameter '0.weight' was replaced"),
        (exchanged_for_a_frozen_one, "parameter '0.weight' was replaced"),
        (unfrozen, "parameter '3.bias' was added, or began"),
        (removed, "parameter '0.bias' was removed after the average was made"),
    ],
)
def test_a_model_with_other_parameters_is_refused(change, words):
    model = net()
    average = Average(model, EMA(0.9))
    average.update()
    before = copying.deepcopy(average.state_dict())
    change(model)
    for use in (average.update, average.values, lambda: average.applied().__enter__()):
        with pytest.raises(RuntimeError, match=words):
            use()
    assert average.step == 1
    assert equal(average.means, before["means"])


def test_parts_without_parameters_come_and_go():
    model = net()
    average = Average(model, EMA(0.9))
    model.add_module("end", nn.Tanh())
    average.update()
    added(model)
    with pytest.raises(RuntimeError, match="'head.weight' was added"):
        average.update()


def test_tensors_by_themselves_are_averaged_under_their_place_or_name():
    a, b = torch.ones(2), torch.zeros(3, requires_grad=True)
    assert list(Average([a, b], Polyak()).means) == ["0", "1"]
    average = Average([("a", a), ("b", b)], Polyak())
    for factor in (1.0, 3.0):
        a.fill_(factor)
        average.update()
    assert average.values()["a"].tolist() == [2.0, 2.0]
    with average.applied():
        assert a.tolist() == [2.0, 2.0]
    assert a.tolist() == [3.0, 3.0]


def test_complex_parameters_have_complex_averages():
    w = nn.Parameter(torch.tensor([1 + 2j, -1j]))
    average = Average([w], Polyak(), dtype=torch.bfloat16)
    points = []
    for (point,) in walk([w], 4):
        average.update()
        points.append(point)
    torch.testing.assert_close(average.means["0"], sum(points) / 4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Average([], Polyak()), "nothing to average: pass a model with parameters that require gradients"),
        (lambda: Average(nn.ReLU(), Polyak()), "nothing to average"),
        (lambda: Average(nn.Linear(2, 2, device="meta"), Polyak()), "weight is on the meta device: materialize"),
        (
            lambda: Average([("a", torch.ones(1))] * 2, Polyak()),
            "two tensors are named 'a': pass pairs whose",
        ),
        (
            lambda: Average(net(), Polyak(), buffers="mean"),
            "unknown value 'mean' of buffers: choose keep",
        ),
        (lambda: Average(net(), Polyak(), dtype=torch.float16), "an average is not kept in torch.float16: choose"),
    ],
)
def test_what_cannot_be_averaged_is_refused(make, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make()


def test_batch_norm_statistics_are_taken_anew_for_the_average_and_come_back():
    from thalweg.normalization import estimate_population_statistics

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    average, data = Average(model, Polyak()), torch.randn(90, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for x in data.split(30):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        average.update()
    before = model[1].running_mean.clone()
    with average.applied():
        estimate_population_statistics(model, data.split([80, 10]))
        hidden = model[0](data)
        torch.testing.assert_close(model[1].running_mean, hidden.mean(0))
        torch.testing.assert_close(model[1].running_var, hidden.var(0))
    assert torch.equal(model[1].running_mean, before)
