"""Models that people have, each with an input."""

import torch
from torch import nn


class Residual(nn.Module):
    """Convolutions with a skip, and a method call between."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1, groups=2)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.head((x + self.b(torch.relu(self.a(x)))).mean((2, 3)))


class Branching(nn.Module):
    """A graph that depends on values."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        h = self.a(x)
        return self.b(torch.relu(h) if h.sum() > -1e9 else h)


def mlp():
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))


def volumes():
    return nn.Sequential(nn.ConvTranspose3d(4, 6, 2, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 27, 2))


def sequences():
    return nn.Sequential(
        nn.Conv1d(3, 4, 2), nn.ReLU(), nn.ConvTranspose1d(4, 4, 3, groups=2), nn.ReLU(), nn.Conv1d(4, 2, 1)
    )


def mixer():
    """Dense layers along the last dimension of a sequence as long as it is wide."""
    return nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 2))


MODELS = {
    "mlp": (mlp, (16, 3)),
    "residual": (Residual, (8, 1, 6, 6)),
    "volumes": (volumes, (5, 4, 2, 2, 2)),
    "sequences": (sequences, (7, 3, 6)),
    "mixer": (mixer, (6, 5, 3)),
}


def case(name, dtype=torch.float64, seed=0):
    """Returns the model with drawn parameters, and an input."""
    build, shape = MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().to(dtype), torch.randn(shape, dtype=torch.float64).to(dtype)
