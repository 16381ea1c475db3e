"""Every optimizer here that has torch's arguments beside torch's own, and a small model to train with them."""

import pytest
import torch
from torch import nn

from thalweg import optim

PAIRS = {
    "SGD": (optim.SGD, torch.optim.SGD, {"lr": 0.05}),
    "momentum": (optim.SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "dampening": 0.1}),
    "Nesterov": (optim.SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "AdaGrad": (optim.AdaGrad, torch.optim.Adagrad, {"lr": 0.1, "lr_decay": 0.01}),
    "Adadelta": (optim.Adadelta, torch.optim.Adadelta, {}),
    "RMSProp": (optim.RMSProp, torch.optim.RMSprop, {"momentum": 0.5, "centered": True}),
    "Adam": (optim.Adam, torch.optim.Adam, {"lr": 0.01}),
    "AMSGrad": (optim.Adam, torch.optim.Adam, {"lr": 0.01, "amsgrad": True}),
    "Adam decoupled": (optim.Adam, torch.optim.Adam, {"lr": 0.01, "decoupled_weight_decay": True}),
    "AdamW": (optim.AdamW, torch.optim.AdamW, {"lr": 0.01}),
    "NAdam": (optim.NAdam, torch.optim.NAdam, {"lr": 0.01}),
    "NAdam decoupled": (optim.NAdam, torch.optim.NAdam, {"lr": 0.01, "decoupled_weight_decay": True}),
}
each = pytest.mark.parametrize(("ours", "torchs", "options"), PAIRS.values(), ids=PAIRS)


def net(dtype=torch.float64):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 2))
    with torch.no_grad():
        for p in model.parameters():
            p += 0.3
    return model.to(dtype)


def loss_of(model):
    x = torch.linspace(-1, 1, 60, dtype=torch.float64).view(10, 6)
    return (model(x.to(model[0].weight)) - x[:, :2].sin().to(model[0].weight)).square().mean()


def train(model, optimizer, steps=20):
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def same(a, b, rtol=1e-7, atol=1e-9):
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)
