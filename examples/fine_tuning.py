"""Fine-tuning: a pretrained network whose first layer is frozen, one that learns slowly, and a new head.

All runs begin with the weights that the module has. Settings by name hold for every strategy; what needs no gradient is
not trained either. Biases have no weight decay.

The command is ``thalweg compare fine_tuning.py:task --strategies sgd,adam,adamw``.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

import thalweg


def digits(of):
    """Returns the images of five digits, and which of the five each shows."""
    images, labels = load_digits(return_X_y=True)
    chosen = (labels >= of) & (labels < of + 5)
    return torch.tensor(images[chosen] / 16, dtype=torch.float32), torch.tensor(labels[chosen] - of)


def pretrained():
    """Returns a network that tells the digits 0 to 4 apart; yours would come from a file or a hub."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    x, y = digits(0)
    for _ in range(50):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    return network


def task():
    network = pretrained()
    network[4] = nn.Linear(16, 5)
    x, y = digits(5)
    train, valid, test = (TensorDataset(x[i:j], y[i:j]) for i, j in ((0, 400), (400, 600), (600, len(x))))
    own = {"no_decay": True, "groups": {"0": {"frozen": True}, "2": {"lr_scale": 0.1}}}
    parts = train, valid, test
    return thalweg.Task(network, *parts, nn.functional.cross_entropy, name="fine-tuning", steps=100, **own)
