"""Smoothing by sampling: unbiased value and gradient, one batched pass, memory by chunks, buffers and draws."""

import math

import pytest
import torch
from torch import nn

from thalweg.continuation import Falling, GaussianSmoothing


class Point(nn.Module):
    """A point of a plane of any dimension."""

    def __init__(self, *values):
        super().__init__()
        self.x = nn.Parameter(torch.tensor(values, dtype=torch.float64))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def estimates(cost, point, sigma, runs, **options):
    """Returns values and gradients ``(runs, …)``."""
    smooth = GaussianSmoothing(cost, sigma, generator=seeded(), **options)
    values = [smooth(point, None) for _ in range(runs)]
    gradients = [torch.autograd.grad(value, point.x)[0] for value in values]
    return torch.stack(values).detach(), torch.stack(gradients)


def within(found, expected, deviations=4.5):
    """Whether the mean of independent estimates is the expected value, to within so many standard errors."""
    error = found.std(dim=0) / len(found) ** 0.5
    return bool(((found.mean(dim=0) - expected).abs() <= deviations * error + 1e-12).all())


H = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)


def quadratic(point, batch):
    return 0.5 * point.x @ H @ point.x


@pytest.mark.parametrize("antithetic", [True, False])
@pytest.mark.parametrize("sigma", [0.1, 2.0])
def test_of_a_quadratic_half_the_trace_is_added_and_the_gradient_stays(antithetic, sigma):
    point = Point(1.0, -2.0)
    values, gradients = estimates(quadratic, point, sigma, 400, antithetic=antithetic)
    exact = H @ point.x.detach()
    assert within(values, quadratic(point, None).item() + sigma**2 / 2 * H.trace().item())
    if antithetic:
        torch.testing.assert_close(gradients, exact.expand_as(gradients))
    else:
        assert within(gradients, exact)
        assert gradients.std() > 0.1 * sigma


@pytest.mark.parametrize("options", [{}, {"antithetic": False}, {"chunk": 2}, {"chunk": 1}, {"samples": 2}])
@pytest.mark.parametrize("sigma", [0.3, 1.5])
def test_a_cosine_shrinks_by_the_gaussians_transform(options, sigma):
    point = Point(0.7)
    values, gradients = estimates(lambda p, batch: p.x.cos().sum(), point, sigma, 300, **options)
    shrunk = math.exp(-(sigma**2) / 2)
    assert within(values, math.cos(0.7) * shrunk)
    assert within(gradients, -math.sin(0.7) * shrunk)


def test_pairs_lower_the_variance_of_the_gradient():
    spread = [
        estimates(lambda p, b: p.x.cos().sum(), Point(0.7), 0.5, 300, antithetic=a)[1].var() for a in (True, False)
    ]
    assert spread[0] < spread[1] / 3


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def mean_square(model, batch):
    return (model(batch) ** 2).mean()


def by_hand(model, cost, batch, sigma, samples, seed):
    """The reference: one sample after another, each written into the model."""
    seeds = seeded(seed)
    source = seeded(int(torch.randint(2**62, (), generator=seeds)))
    noise = [torch.randn(samples // 2, *p.shape, generator=source, dtype=p.dtype) for p in model.parameters()]
    start = [p.detach().clone() for p in model.parameters()]
    total, sums = 0.0, [torch.zeros_like(p) for p in start]
    for i in range(samples // 2):
        for sign in (1, -1):
            with torch.no_grad():
                for p, s, e in zip(model.parameters(), start, noise, strict=True):
                    p.copy_(s + sign * sigma * e[i])
            loss = cost(model, batch)
            total += loss.item() / samples
            for s, g in zip(sums, torch.autograd.grad(loss, list(model.parameters())), strict=True):
                s += g / samples
    with torch.no_grad():
        for p, s in zip(model.parameters(), start, strict=True):
            p.copy_(s)
    return total, sums


def test_it_is_the_mean_over_perturbed_models():
    model, batch = network(), torch.randn(7, 3, dtype=torch.float64)
    loss = GaussianSmoothing(mean_square, 0.3, samples=6, generator=seeded(5))(model, batch)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    value, expected = by_hand(model, mean_square, batch, 0.3, 6, 5)
    assert loss.item() == pytest.approx(value, abs=1e-12)
    torch.testing.assert_close(list(gradients), expected)


def test_all_samples_run_in_one_pass():
    calls = []

    def cost(model, batch):
        calls.append(1)
        return mean_square(model, batch)

    model, batch = network(), torch.randn(7, 3, dtype=torch.float64)
    GaussianSmoothing(cost, 0.3, samples=64)(model, batch).backward()
    assert len(calls) == 1


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 12, 100])
def test_chunks_have_smaller_graphs_and_the_same_derivatives(chunk):
    model, batch = network(), torch.randn(7, 3, dtype=torch.float64)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        loss = GaussianSmoothing(mean_square, 0.3, samples=12, generator=seeded(), chunk=chunk)(model, batch)
        size = sum(t.numel() for t in kept if t is not batch)
    gradients = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    torch.autograd.grad(sum(g.square().sum() for g in gradients), list(model.parameters()))  # twice differentiable
    if chunk < 12:
        assert size == 0  # what is saved is worked out again
        seeds, values = seeded(), []
        for count in [max(2, chunk // 2 * 2)] * (12 // max(2, chunk // 2 * 2)):
            part = GaussianSmoothing(mean_square, 0.3, samples=count, generator=seeds)
            values.append(part(model, batch) * count / 12)
        torch.testing.assert_close(loss, sum(values))
        again = torch.autograd.grad(sum(values), list(model.parameters()))
        torch.testing.assert_close(list(gradients), list(again))
    else:
        assert size > 12 * 7 * 5


def test_at_the_end_it_is_the_cost_itself():
    model, batch = network(), torch.randn(7, 3, dtype=torch.float64)
    family = GaussianSmoothing(mean_square, Falling(1.0, 0.01), generator=seeded())
    assert family(model, batch, 1.0) == mean_square(model, batch)
    assert family(model, batch, 0.999) != mean_square(model, batch)


def test_frozen_parameters_get_no_noise_and_shared_ones_the_same():
    model = network()
    model[0].requires_grad_(False)
    outputs = []
    smooth = GaussianSmoothing(lambda m, b: outputs.append(m[0](b).sum()) or mean_square(m, b), 1.0, chunk=1)
    smooth(model, torch.ones(1, 3, dtype=torch.float64))
    assert len({o.item() for o in outputs}) == 1
    tied = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    tied[1].weight = tied[0].weight
    gap = GaussianSmoothing(lambda m, b: (m[0].weight - m[1].weight).square().sum(), 1.0)(tied, None)
    assert gap.item() == 0


@pytest.mark.parametrize("chunk", [None, 2, 1])
def test_statistics_of_a_batch_norm_are_left_with_their_mean_over_the_samples(chunk):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=1.0), nn.ReLU(), nn.Linear(4, 1))
    x = torch.randn(20, 3)
    seen = []
    model[0].register_forward_hook(lambda m, args, output: seen.append(output.detach()))
    GaussianSmoothing(lambda m, b: m(b).mean(), 0.5, samples=4, generator=seeded(), chunk=chunk)(model, x).backward()
    assert model[1].num_batches_tracked == 1
    plain = model[0](x).mean(dim=0).detach()
    if chunk == 1:
        torch.testing.assert_close(model[1].running_mean, torch.stack(seen[:4]).mean(dim=(0, 1)))
    torch.testing.assert_close(model[1].running_mean, plain)  # pairs cancel, the layer being linear


@pytest.mark.parametrize("chunk", [None, 2, 1])
def test_buffers_that_are_only_read_stay_to_the_bit(chunk):
    model, batch = network(), torch.randn(7, 3, dtype=torch.float64)
    model.register_buffer("scale", torch.rand(5) / 3)
    model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    before = model.scale.clone()
    GaussianSmoothing(lambda m, b: m.scale.sum() * mean_square(m, b), 0.3, samples=6, chunk=chunk)(model, batch)
    assert torch.equal(model.scale, before)
    assert model.mask.tolist() == [0.0, -torch.inf]


def test_samples_draw_dropout_of_their_own():
    torch.manual_seed(0)
    point = Point(*[1.0] * 50)
    drop = nn.Dropout(0.5)
    smooth = GaussianSmoothing(lambda p, b: drop(p.x).sum(), 1e-9, samples=400, generator=seeded())
    assert smooth(point, None).item() == pytest.approx(50, abs=2)


def test_it_is_repeated_from_its_state_and_leaves_other_draws_alone():
    model, batch = network(), torch.randn(7, 3, dtype=torch.float64)
    smooth, other = (GaussianSmoothing(mean_square, 0.3, generator=seeded(i)) for i in range(2))
    before = torch.random.get_rng_state()
    smooth(model, batch)
    other.load_state_dict(smooth.state_dict())
    assert smooth(model, batch) == other(model, batch)
    assert torch.equal(before, torch.random.get_rng_state())
    with pytest.raises(ValueError, match="differ in generator=: pass one exactly if"):
        other.load_state_dict(GaussianSmoothing(mean_square, 0.3).state_dict())
    with torch.no_grad():
        assert not smooth(model, batch).requires_grad


def test_a_cost_that_cannot_be_batched_says_what_to_do():
    def cost(model, batch):
        value = mean_square(model, batch)
        return value if value.item() > 0 else -value

    model, batch = network(), torch.randn(7, 3, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="the cost cannot run batched .*: pass chunk=1 to run samples one by one"):
        GaussianSmoothing(cost, 0.3)(model, batch)
    loss = GaussianSmoothing(cost, 0.3, chunk=1, generator=seeded())(model, batch)
    plain = GaussianSmoothing(mean_square, 0.3, chunk=2, generator=seeded())(model, batch)
    torch.testing.assert_close(loss, plain)


def test_errors_of_the_cost_are_its_own():
    with pytest.raises(RuntimeError, match=r"Expected size|cannot be multiplied"):
        GaussianSmoothing(mean_square, 0.3)(network(), torch.ones(2, 4, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0.0}, "sigma is 0.0 at t = 0: give a positive number"),
        ({"sigma": -1.0}, "sigma is -1.0 at t = 0"),
        ({"sigma": lambda t: float("nan")}, "sigma is nan at t = 0"),
        ({"samples": 3}, "samples is 3: give at least 1, an even number for antithetic pairs"),
        ({"samples": 0, "antithetic": False}, "samples is 0"),
        ({"chunk": 0}, "chunk is 0: give at least 1 sample"),
    ],
)
def test_what_cannot_be_smoothed_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GaussianSmoothing(mean_square, **({"sigma": 1.0} | options))


def test_nothing_to_smooth_over_and_a_width_that_vanishes_on_the_way():
    model, batch = network(), torch.ones(1, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="sigma is 0.0 at t = 0.5: give a positive number"):
        GaussianSmoothing(mean_square, lambda t: 0.5 - t)(model, batch, 0.5)
    with pytest.raises(ValueError, match="no parameter of the model requires a gradient"):
        GaussianSmoothing(mean_square, 1.0)(model.requires_grad_(False), batch)
