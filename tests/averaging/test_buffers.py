"""Buffers that stand with the average: as they are, as they were, or averaged; batch norm taken anew."""

import pytest
import torch
from torch import nn

from tests.averaging.points import copy, equal, net, train, trainable
from thalweg.averaging import Average, Polyak


def trained(buffers):
    """Returns a model after four steps, its average, and the running means after each step."""
    model = net()
    average = Average(model, Polyak(), buffers=buffers)
    optimizer = torch.optim.SGD(trainable(model), lr=0.1)
    seen = []
    for seed in range(4):
        train(model, optimizer, 1, seed)
        average.update()
        seen.append(model[1].running_mean.clone())
    train(model, optimizer, 1, 9)  # buffers go on after the last update
    return model, average, seen


def test_kept_buffers_are_the_models_own():
    model, average, _ = trained("keep")
    now = copy(model[1])
    with average.applied():
        assert torch.equal(model[1].running_mean, now["running_mean"])
        assert model[1].num_batches_tracked == 5
    assert torch.equal(average.values()["1.running_mean"], now["running_mean"])


def test_copied_buffers_are_those_of_the_last_update():
    model, average, seen = trained("copy")
    with average.applied():
        assert torch.equal(model[1].running_mean, seen[-1])
        assert model[1].num_batches_tracked == 4
    assert model[1].num_batches_tracked == 5


def test_floating_buffers_are_averaged_and_integers_copied():
    model, average, seen = trained("average")
    with average.applied():
        torch.testing.assert_close(model[1].running_mean, sum(seen) / 4)
        assert model[1].num_batches_tracked == 4
        assert model[1].num_batches_tracked.dtype == torch.int64


class Counting(nn.Module):
    """Puts new tensors in its buffers' places, and has one that is not saved."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))
        self.register_buffer("level", torch.zeros(1))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)

    def forward(self):
        self.level = self.level + 1
        self.scratch = self.scratch + 1


@pytest.mark.parametrize("buffers", ["copy", "average"])
def test_buffers_that_are_replaced_are_found_and_those_not_saved_are_left(buffers):
    model = Counting()
    average = Average(model, Polyak(), buffers=buffers)
    for _ in range(3):
        model()
        average.update()
    level, scratch = model.level, model.scratch
    with average.applied():
        assert model.level.item() == (3 if buffers == "copy" else 2)
        assert model.scratch.item() == 3
        model()
    assert model.level is level
    assert model.scratch is scratch
    assert (level.item(), scratch.item()) == (3, 3)


def test_statistics_taken_anew_within_belong_to_the_average_and_do_not_stay():
    model, average, _ = trained("keep")
    before = copy(model)
    data = torch.randn(64, 3, generator=torch.Generator().manual_seed(5))
    with average.applied():
        exact = model[0](data)
        norm = model[1]
        norm.reset_running_stats()
        norm.momentum = None
        model(data)
        torch.testing.assert_close(norm.running_mean, exact.mean(0))
        taken = average.values()
        norm.momentum = 0.1
    assert equal(copy(model), before)
    torch.testing.assert_close(taken["1.running_mean"], exact.mean(0))
    assert torch.equal(taken["0.weight"], average.means["0.weight"])
