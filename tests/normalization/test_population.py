"""Population statistics are those of all the data at once, however it is cut into batches."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from thalweg.normalization import BatchNorm, estimate_population_statistics


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def net():
    return nn.Sequential(nn.Linear(3, 4), BatchNorm(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2), nn.BatchNorm1d(2))


@given(sizes=st.lists(st.integers(2, 40), min_size=1, max_size=8), level=st.sampled_from([0.0, 1e4]))
@settings(max_examples=25, deadline=None)
def test_any_cut_gives_mean_and_variance_of_the_whole(sizes, level):
    x = level + normal(sum(sizes), 3, 2, seed=len(sizes)) * torch.tensor([[1.0], [0.1], [3.0]])
    x[: sizes[0]] += 2  # batches differ
    for norm in (BatchNorm(3, momentum=0.01), nn.BatchNorm1d(3)):
        estimate_population_statistics(norm, x.split(sizes))
        values = x.double().transpose(0, 1).flatten(1)
        torch.testing.assert_close(norm.running_mean, values.mean(dim=1).float(), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(norm.running_var, values.var(dim=1).float(), rtol=1e-5, atol=0)
        assert int(norm.num_batches_tracked) == len(sizes)


def test_two_levels_in_unequal_batches():
    """90 % at 0 and 10 % at 1: mean 0.1 and variance 0.09, where torch's function gives 0.5 and 0."""
    batches = torch.cat([torch.zeros(900, 1), torch.ones(100, 1)]).split([900, 100])
    norm = estimate_population_statistics(BatchNorm(1), batches)
    assert norm.running_mean.item() == pytest.approx(0.1)
    assert norm.running_var.item() == pytest.approx(0.09 * 1000 / 999)
    torch.optim.swa_utils.update_bn(batches, norm)
    assert (norm.running_mean.item(), norm.running_var.item()) == (0.5, 0.0)


def test_each_normalization_pools_its_inputs_as_they_come_in_training_without_dropout():
    model, batches = net(), normal(50, 3).split([20, 30])
    estimate_population_statistics(model, batches)
    first = torch.cat([model[0](b) for b in batches])
    torch.testing.assert_close(model[1].running_mean, first.mean(dim=0))
    hidden = [nn.functional.batch_norm(model[0](b), None, None, training=True).relu() for b in batches]
    second = torch.cat([model[4](h) for h in hidden])
    torch.testing.assert_close(model[5].running_mean, second.mean(dim=0))
    torch.testing.assert_close(model[5].running_var, second.var(dim=0))


def test_all_else_stays_as_it_was():
    model = net().train()
    model[5].eval()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    state = torch.random.get_rng_state()
    loader = DataLoader(TensorDataset(normal(20, 3), torch.zeros(20)), batch_size=8, shuffle=True)
    assert estimate_population_statistics(model, loader) is model
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [m.training for m in model.modules()] == modes
    assert not any(m._forward_pre_hooks for m in model.modules())
    assert (model[1].momentum, model[5].momentum) == (0.1, 0.1)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) != ("running" in name or "tracked" in name)
    assert all(p.grad.eq(1).all() for p in model.parameters())


class Keywords(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = BatchNorm(3, dim=-1)

    def forward(self, *, x, scale):
        return self.norm(scale * x)


@pytest.mark.parametrize(
    ("batches", "call"),
    [
        (lambda x: [{"x": b, "scale": 2.0} for b in x.split(4)], None),
        (lambda x: [(b, 2.0) for b in x.split(4)], lambda model, batch: model(x=batch[0], scale=batch[1])),
    ],
)
def test_batches_of_any_kind(batches, call):
    x = normal(10, 5, 3)
    norm = estimate_population_statistics(Keywords(), batches(x), call=call).norm
    torch.testing.assert_close(norm.running_mean, 2 * x.mean(dim=(0, 1)))
    torch.testing.assert_close(norm.running_var, 4 * x.flatten(0, 1).var(dim=0))


def test_normalizations_without_statistics_or_that_do_not_run_are_left_alone():
    model = nn.Sequential(BatchNorm(3, track_running_stats=False), nn.BatchNorm1d(3))
    model.spare = BatchNorm(2)
    model.forward = lambda x: model[1](model[0](x))
    estimate_population_statistics(model, [normal(9, 3)])
    assert int(model[1].num_batches_tracked) == 1
    assert (int(model.spare.num_batches_tracked), model.spare.running_var.tolist()) == (0, [1, 1])


@pytest.mark.parametrize(
    ("batches", "error", "match"),
    [
        ([], ValueError, "the loader gave no batch: pass one that is not exhausted"),
        ([normal(4, 3), normal(1, 3)], ValueError, "1 value per channel has no variance"),
        ([normal(4, 3), normal(4, 3) * float("nan")], ValueError, "the inputs of '1' are not finite"),
        ([normal(4, 3), "text"], TypeError, "a batch of type str contains no input: pass call="),
    ],
)
def test_bad_batches_leave_the_model_as_it_was(batches, error, match):
    model = net().eval()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(error, match=match):
        estimate_population_statistics(model, batches)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m.training for m in model.modules())
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_an_input_passed_by_its_name_is_seen_too():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x):
            return self.norm(input=x)

    x = torch.randn(20, 3)
    norm = estimate_population_statistics(Named(), [x]).norm
    torch.testing.assert_close(norm.running_mean, x.mean(dim=0))


def test_a_subclass_that_turns_its_input_is_seen_where_it_normalizes():
    class Turned(nn.BatchNorm1d):
        def forward(self, x):
            return super().forward(x.transpose(1, 2)).transpose(1, 2).relu()

    x = torch.randn(20, 3, 3) + torch.arange(3.0)
    norm = estimate_population_statistics(nn.Sequential(Turned(3)), x.split(7))[0]
    torch.testing.assert_close(norm.running_mean, x.mean(dim=(0, 1)))
    torch.testing.assert_close(norm.running_var, x.flatten(0, 1).var(dim=0))
