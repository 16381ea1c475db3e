"""Parameters that walk, and the averages of the walk written as the book writes them."""

import torch
from torch import nn


def walk(tensors, steps, seed=0):
    """Moves the tensors at random; yields their values after each step."""
    draws = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        with torch.no_grad():
            for t in tensors:
                t.add_(torch.randn(t.shape, generator=draws, dtype=torch.float64).to(t.dtype))
        yield [t.detach().clone() for t in tensors]


def theta(values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def polyak(points, start=0):
    """θ̄ = (1/t) Σ θ_i over the points after ``start``; the last point where there is none."""
    chosen = points[start:] or points[-1:]
    return sum(chosen) / len(chosen)


def exponential(first, points, alpha):
    """θ̄_t = α θ̄_{t−1} + (1 − α) θ_t from θ̄₀ = θ₀; ``alpha`` is a number or a function of t."""
    mean = first
    for t, point in enumerate(points, 1):
        a = alpha(t) if callable(alpha) else alpha
        mean = a * mean + (1 - a) * point
    return mean


def corrected(points, alpha):
    """Σ αᵗ⁻ⁱ θ_i / Σ αᵗ⁻ⁱ."""
    weights = [alpha ** (len(points) - i) for i in range(1, len(points) + 1)]
    return sum(w * p for w, p in zip(weights, points, strict=True)) / sum(weights)


def net():
    """Returns a small model with parameters, floating and integer buffers, and one frozen parameter."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    model[3].bias.requires_grad_(False)
    return model


def trainable(model):
    return [p for p in model.parameters() if p.requires_grad]


def train(model, optimizer, steps, seed=0):
    """Takes steps on noise."""
    draws = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 3, generator=draws)).square().mean().backward()
        optimizer.step()


def copy(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
