"""Difficulty from a teacher, from the model itself as it learns, from the example."""

from itertools import islice

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import BatchSampler, TensorDataset

from tests.curriculum.test_sampler import draw
from thalweg.curriculum import CurriculumSampler, Pacing, SelfPaced, lengths, losses, scores


def problem(n=30):
    source = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(n, 4, generator=source), torch.randint(3, (n,), generator=source))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3))


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_a_teachers_losses_are_those_of_each_example_and_leave_no_trace(batch_size):
    data, model = problem(), network()
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = losses(model, data, functional.cross_entropy, batch_size=batch_size)
    assert [m.training for m in model] == [True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    expected = functional.cross_entropy(model.eval()(data.tensors[0]), data.tensors[1], reduction="none")
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad


def test_any_mean_over_the_batch_is_mapped_over_examples():
    data = TensorDataset(torch.randn(6, 2), torch.randn(6, 2))
    found = losses(nn.Identity(), data, lambda o, t: (o - t).abs().amax(dim=1).mean() ** 2)
    torch.testing.assert_close(found, (data.tensors[0] - data.tensors[1]).abs().amax(dim=1) ** 2)


def test_functions_and_lengths():
    data = [(torch.zeros(n), n) for n in (3, 1, 2)]
    assert lengths(data).tolist() == [3.0, 1.0, 2.0]
    assert scores(data, lambda example: -example[1]).tolist() == [-3.0, -1.0, -2.0]


def self_paced(model, data, every=3):
    source = SelfPaced(model, data, functional.cross_entropy, every=every)
    return CurriculumSampler(source, Pacing("linear", start=0.3, over=20), batch_size=4, mixture=0.25)


def train(model, sampler, data, count):
    """Trains on the sampler's next batches; returns them."""
    x, y = data.tensors
    seen = []
    while len(seen) < count:
        for rows in islice(BatchSampler(sampler, 4, drop_last=False), count - len(seen)):
            seen.append(rows)
            gradients = torch.autograd.grad(functional.cross_entropy(model(x[rows]), y[rows]), list(model.parameters()))
            with torch.no_grad():
                for p, g in zip(model.parameters(), gradients, strict=True):
                    p -= 0.5 * g
    return seen


def test_what_is_easy_changes_as_the_model_learns():
    data, model = problem(), nn.Linear(4, 3)
    sampler = CurriculumSampler(
        SelfPaced(model, data, functional.cross_entropy, every=2), lambda step: 0.2, batch_size=6
    )
    for _ in range(5):
        easiest = set(losses(model, data, functional.cross_entropy).argsort()[:6].tolist())
        assert set(draw(sampler, 6)) == easiest
        with torch.no_grad():
            model.weight.add_(torch.randn(3, 4))
        assert set(draw(sampler, 6)) == easiest  # until the next refresh
    assert len(sampler) == 30


@pytest.mark.parametrize("steps", [0, 1, 3, 5, 9, 20])
def test_a_self_paced_run_goes_on_bit_for_bit(steps, tmp_path):
    data, model, other = problem(), network()[:2], network()[:2]
    sampler = self_paced(model, data)
    train(model, sampler, data, steps)
    torch.save([model.state_dict(), sampler.state_dict()], tmp_path / "state.pt")
    expected = train(model, sampler, data, 12)
    weights, place = torch.load(tmp_path / "state.pt", weights_only=True)
    other.load_state_dict(weights)
    again = self_paced(other, data)
    again.load_state_dict(place)
    assert train(other, again, data, 12) == expected
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_diverged_model_is_named():
    data, model = problem(), nn.Linear(4, 3)
    sampler = CurriculumSampler(
        SelfPaced(model, data, functional.cross_entropy, every=1), lambda step: 0.2, batch_size=6
    )
    draw(sampler, 6)
    with torch.no_grad():
        model.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="difficulty of example 0 is NaN"):
        draw(sampler, 6)


def test_a_refresh_at_no_step_is_refused():
    with pytest.raises(ValueError, match="every must be at least 1 step, not 0"):
        SelfPaced(nn.Linear(1, 1), problem(), functional.cross_entropy, every=0)
