"""torch.optim.swa_utils: the same numbers where it does the same, and a test for each thing in which it falls short."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn, get_swa_avg_fn

from tests.averaging.points import net, train, trainable, walk
from thalweg.averaging import EMA, Average, Polyak

# torch begins at the first point: without correction that is a start after one step.
PAIRS = [
    (Polyak(), None, get_swa_avg_fn()),
    (EMA(0.9, "none", start=1), get_ema_multi_avg_fn(0.9), get_ema_avg_fn(0.9)),
]


@pytest.mark.parametrize(("kind", "many", "one"), PAIRS, ids=["swa", "ema"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_averages_are_torchs(kind, many, one, dtype):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(dtype)
    ours = Average(model, kind)
    reference = [AveragedModel(model, multi_avg_fn=many), AveragedModel(model, avg_fn=one)]
    for _ in walk(model.parameters(), 20):
        ours.update()
        for average in reference:
            average.update_parameters(model)
    for average in reference:
        for name, p in average.module.named_parameters():
            torch.testing.assert_close(ours.means[name], p.detach())
    with ours.applied():
        x = torch.randn(5, 3, dtype=dtype)
        torch.testing.assert_close(model(x), reference[0](x))


def test_averaged_buffers_are_torchs_but_integers_are_copied_not_averaged():
    model = net()
    optimizer = torch.optim.SGD(trainable(model), lr=0.1)
    ours, reference = Average(model, Polyak(), buffers="average"), AveragedModel(model, use_buffers=True)
    for seed in range(4):
        train(model, optimizer, 1, seed)
        ours.update()
        reference.update_parameters(model)
    torch.testing.assert_close(ours.means["1.running_mean"], reference.module[1].running_mean)
    assert ours.values()["1.num_batches_tracked"] == 4
    assert reference.module[1].num_batches_tracked < 4  # the mean of 1, 2, 3, 4, cut at each step


def test_the_model_is_not_copied():
    class Uncopied(nn.Linear):
        def __deepcopy__(self, memo):
            raise TypeError("cannot be copied")

    model = Uncopied(2, 2)
    with pytest.raises(TypeError, match="cannot be copied"):
        AveragedModel(model)
    average = Average(model, Polyak())
    average.update()
    with average.applied():
        model(torch.ones(2))


def test_the_start_is_corrected():
    w = nn.Parameter(torch.tensor([100.0]))
    holder = nn.ParameterList([w])
    reference = AveragedModel(holder, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    ours = Average(holder, EMA(0.99))
    for t in range(100):
        with torch.no_grad():
            w.fill_(100.0 if t == 0 else 0.0)
        reference.update_parameters(holder)
        ours.update()
    assert reference.module[0].item() > 30  # the first of a hundred points counts for more than a third
    assert ours.means["0"].item() == pytest.approx(100 * 0.99**99 * 0.01 / (1 - 0.99**100))  # as it should: 0.6 %


def test_the_state_says_by_what_it_was_averaged():
    model = nn.Linear(2, 2)
    reference = [AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(d)) for d in (0.9, 0.999)]
    reference[1].load_state_dict(reference[0].state_dict())  # goes on with another decay, and does not say so
    ours = [Average(model, EMA(d)) for d in (0.9, 0.999)]
    with pytest.raises(ValueError, match=r"the state is of .*'decay': 0.9.*, the average is .*'decay': 0.999"):
        ours[1].load_state_dict(ours[0].state_dict())


def test_bfloat16_does_not_stall():
    model = nn.Linear(200, 200, bias=False).bfloat16()
    nn.init.constant_(model.weight, 1.0)
    reference = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    ours = [Average(model, EMA(0.999, "none"), dtype=dtype) for dtype in (None, torch.bfloat16)]
    reference.update_parameters(model)
    nn.init.constant_(model.weight, 1.25)
    for _ in range(1000):
        reference.update_parameters(model)
        for average in ours:
            average.update()
    exact = 1.25 - 0.25 * 0.999**1000
    assert reference.module.weight.max().item() == 1.0
    for average in ours:
        assert average.means["weight"].double().mean().item() == pytest.approx(exact, abs=1e-3)


def test_a_model_that_has_changed_is_not_averaged_in_part():
    model = nn.Sequential(nn.Linear(2, 2))
    reference, ours = AveragedModel(model), Average(model, Polyak())
    model.append(nn.Linear(2, 2))
    reference.update_parameters(model)  # silent: zip ends with the shorter
    with pytest.raises(RuntimeError, match="parameter '1.weight' was added"):
        ours.update()
