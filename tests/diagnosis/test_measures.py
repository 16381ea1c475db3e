"""Curvature after some steps, gradient noise and the range test, each against what is known of a plain model."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import thalweg
from thalweg.diagnosis.gradient_noise import batch_size, gradient_noise
from thalweg.diagnosis.learning_rate_range import learning_rate_range
from thalweg.diagnosis.observe import observe
from thalweg.diagnosis.sharpness import curvature

mse = functional.mse_loss


class Point(nn.Module):
    """Its parameters alone; what the inputs hold is in the loss."""

    def __init__(self, start):
        super().__init__()
        self.w = nn.Parameter(start.clone())

    def forward(self, x):
        return x @ self.w


def quadratic(eigenvalues):
    """A model and a batch whose loss has the Hessian diag(eigenvalues)."""
    root = torch.diag(torch.tensor(eigenvalues, dtype=torch.float64).sqrt())
    n = len(eigenvalues)
    return Point(torch.ones(n, dtype=torch.float64)), (root, torch.zeros(n, dtype=torch.float64))


def half_square(y, target):
    return 0.5 * (y - target).square().sum()


def test_the_condition_is_exact_in_the_whole_space_and_a_lower_bound_in_part_of_it():
    eigenvalues = [0.01 * 1.5**i for i in range(20)]
    net, batch = quadratic(eigenvalues)
    seen = observe(net, batch, half_square)
    true = eigenvalues[-1] / eigenvalues[0]
    bounds = [curvature(seen, half_square, steps).condition for steps in (2, 5, 10, 20)]
    assert bounds == sorted(bounds)
    assert bounds[-2] < true * (1 + 1e-9)
    assert bounds[-1] == pytest.approx(true, rel=1e-6)
    singular, batch = quadratic([0.0, 1.0, 2.0])
    assert curvature(observe(singular, batch, half_square), half_square).condition == math.inf


def test_an_indefinite_spectrum_does_not_make_the_condition_larger_than_it_is():
    torch.manual_seed(0)
    signs = torch.tensor([-1.0, 1.0] * 10, dtype=torch.float64)

    def saddle(y, target):
        return 0.5 * (signs * y.square()).sum()

    net, batch = quadratic([1.0] * 20)
    for steps in (1, 2, 3):  # Ritz values lie between -1 and 1, some near 0
        assert curvature(observe(net, batch, saddle), saddle, steps).condition <= 1 + 1e-6


def test_curvature_after_steps_is_that_of_the_point_that_gradient_descent_comes_to():
    net = Point(torch.tensor([1.0, 2.0], dtype=torch.float64))
    batch = (torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))

    def quartic(y, target):
        return (y**4).sum() / 12  # Hessian diag(w²)

    seen = observe(net, batch, quartic)
    w, largest = net.w.detach().clone(), 4.0
    for _ in range(7):
        w -= w**3 / 3 / largest
    found = curvature(seen, quartic, 5, descended=7)
    assert found.largest == pytest.approx(float(w.max()) ** 2, rel=1e-6)
    assert found.smallest == pytest.approx(float(w.min()) ** 2, rel=1e-6)
    assert net.w.tolist() == [1.0, 2.0]


def noisy(mean, spread, examples, seed):
    """A batch whose examples have gradients mean + N(0, spread²) at every point."""
    draws = torch.randn(examples, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return mean + spread * draws, torch.zeros(examples, dtype=torch.float64)


def linear_mean(y, target):
    return y.mean()


def test_the_noise_scale_is_unbiased_and_its_interval_covers():
    mean, spread = torch.full((50,), 0.2, dtype=torch.float64), 1.0
    true = float((mean**2).sum()) / (50 * spread**2)  # 1/B = |G|² / tr Σ
    found = []
    for seed in range(200):
        net = Point(torch.zeros(50, dtype=torch.float64))
        batch = noisy(mean, spread, 256, seed)
        found.append(gradient_noise(observe(net, batch, linear_mean), [], linear_mean))
    inverses = torch.tensor([n.inverse for n in found], dtype=torch.float64)
    assert abs(float(inverses.mean()) - true) < 3 * float(inverses.std()) / math.sqrt(200)
    covered = sum(abs(n.inverse - true) <= 2 * n.error for n in found)
    assert covered >= 180
    assert all(n.size == 16 for n in found)


def test_further_batches_count_and_pure_noise_cannot_be_told():
    net = Point(torch.zeros(50, dtype=torch.float64))
    zero = torch.zeros(50, dtype=torch.float64)
    batches = [noisy(zero, 1.0, 32, seed) for seed in range(16)]
    seen = observe(net, batches[0], linear_mean)
    found = gradient_noise(seen, [((x,), y) for x, y in batches[1:]], linear_mean)
    assert found.size == 32
    assert batch_size(found)[0].meaning.startswith("not determined")
    assert "16 examples" not in batch_size(found)[0].meaning
    few = observe(net, noisy(zero, 1.0, 4, 0), linear_mean)
    assert isinstance(gradient_noise(few, [], linear_mean), str)


def stream(count, size, seed=0):
    """Batches of a linear regression with noise."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(count * size, 10, generator=g)
    y = x @ torch.ones(10, 1) + 0.5 * torch.randn(count * size, 1, generator=g)
    return list(zip(x.split(size), y.split(size), strict=True))


def regression():
    net = nn.Linear(10, 1)
    nn.init.zeros_(net.weight), nn.init.zeros_(net.bias)
    return net


def test_the_range_ends_near_the_largest_stable_rate_and_the_suggestion_below():
    batches = stream(1, 512)
    x = torch.cat([batches[0][0], torch.ones(512, 1)], dim=1)
    stable = 2 / float(torch.linalg.eigvalsh(2 * x.T @ x / 512)[-1])
    test = learning_rate_range(regression(), batches, mse)
    assert stable / 50 < test.best < stable  # the rates before have done part of the descent already
    assert stable / 10 < test.highest < 3 * stable


def test_a_loss_that_differs_from_batch_to_batch_does_not_move_the_suggestion():
    batches = stream(40, 32)
    offsets = 100 * torch.randn(40, generator=torch.Generator().manual_seed(1))

    def shifted(y, target):
        return mse(y, target[:, :1]) + 1000 + target[0, 1]

    marked = [(x, torch.cat([y, o.expand(32, 1)], dim=1)) for (x, y), o in zip(batches, offsets, strict=True)]
    plain = learning_rate_range(regression(), batches, lambda y, t: mse(y, t) + 1000)
    moved = learning_rate_range(regression(), marked, shifted)
    assert plain.best == moved.best is not None or (plain.best is None and moved.best is None)
    assert torch.tensor(moved.changes) == pytest.approx(torch.tensor(plain.changes), abs=2e-3)


def test_pure_noise_is_told_a_rate_in_few_of_many_runs():
    suggested = 0
    for seed in range(100):
        g = torch.Generator().manual_seed(seed)
        batches = [(torch.randn(1, 5, generator=g), torch.ones(1)) for _ in range(101)]
        test = learning_rate_range(Point(torch.zeros(5)), batches, lambda y, t: y.sum() + 1, high=1.0)
        suggested += test.best is not None
    assert suggested <= 10


def test_the_optimizer_under_test_and_a_range_that_begins_too_high():
    batches = stream(40, 32)
    adam = learning_rate_range(regression(), batches, mse, optimizer=lambda p: torch.optim.Adam(p))
    assert 1e-3 < adam.best < 3
    high = learning_rate_range(regression(), batches, mse, low=10.0, high=1e4)
    assert high.best is None
    assert "start with a lower one" in high.why
    assert len(high.changes) < 10


@pytest.mark.parametrize("options", [{"low": 0.0}, {"low": 1.0, "high": 0.5}, {"steps": 8}])
def test_bad_bounds_are_refused(options):
    with pytest.raises(ValueError, match="give at least one batch, 0 < low < high"):
        learning_rate_range(regression(), stream(2, 8), mse, **options)
    with pytest.raises(ValueError, match="no parameter is trained"):
        learning_rate_range(regression().requires_grad_(False), stream(2, 8), mse)
    with pytest.raises(ValueError, match="range_steps is 3: it must be at least 32, or 0"):
        thalweg.diagnose(regression(), stream(1, 8)[0], mse, range_steps=3)
