"""What the authors' implementations, or others', give after 200 steps, ours give too.

Their results stand in ``authors.json``, so that the packages are not needed; where one is installed it is held to them.
``python -m tests.optim.test_authors`` runs all of them and writes the file again.
"""

import importlib
import importlib.metadata
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from thalweg import optim

STEPS = 200
FILE = Path(__file__).with_name("authors.json")
WARM = {"warmup_steps": 20, "weight_decay": 0.01}
MIX = {"lr": 0.01, "weight_decay": 0.1}


# Package, its class, its options, and ours.
CASES = {
    "Lion": ("lion_pytorch", "Lion", MIX, partial(optim.Lion, **MIX)),
    "schedule-free SGD": (
        "schedulefree",
        "SGDScheduleFree",
        {"lr": 0.2, "momentum": 0.9, **WARM},
        partial(optim.ScheduleFreeSGD, lr=0.2, **WARM),
    ),
    "schedule-free AdamW": (
        "schedulefree",
        "AdamWScheduleFree",
        {"lr": 0.02, "r": 1.0, **WARM},
        partial(optim.ScheduleFreeAdamW, lr=0.02, r=1.0, **WARM),
    ),
    "Prodigy": (
        "prodigyopt",
        "Prodigy",
        {"weight_decay": 0.01, "d_coef": 0.5, "growth_rate": 1.3},
        partial(optim.Prodigy, weight_decay=0.01, d_coef=0.5, growth_rate=1.3),
    ),
    "Prodigy, safeguarded": (
        "prodigyopt",
        "Prodigy",
        {"safeguard_warmup": True, "use_bias_correction": True, "lr": 0.5},
        partial(optim.Prodigy, safeguard_warmup=True, bias_correction=True, lr=0.5),
    ),
    "AdEMAMix": (
        "pytorch_optimizer",
        "AdEMAMix",
        {**MIX, "betas": (0.9, 0.999, 0.9999), "alpha": 5.0, "t_alpha_beta3": 150, "weight_decouple": True},
        partial(optim.AdEMAMix, **MIX, alpha_warmup=150, beta3_warmup=150),
    ),
    "Adan": (
        "pytorch_optimizer",
        "Adan",
        {**MIX, "betas": (0.98, 0.92, 0.99), "weight_decouple": False},
        partial(optim.Adan, **MIX),
    ),
    "LARS": (
        "pytorch_optimizer",
        "LARS",
        {"lr": 5.0, "weight_decay": 0.1, "momentum": 0.9, "dampening": 0.0, "trust_coefficient": 1e-3},
        partial(optim.LARS, lr=5.0, weight_decay=0.1),
    ),
    "AdamW, MARS": (
        "pytorch_optimizer",
        "MARS",
        {**MIX, "betas": (0.95, 0.99), "gamma": 0.025, "optimize_1d": True, "eps": 0.0, "weight_decouple": True},
        partial(optim.AdamW, **MIX, betas=(0.95, 0.99), eps=0.0, mars_gamma=0.025),  # their eps is scaled
    ),
    "momentum, Lookahead": (
        "pytorch_optimizer",
        "Lookahead",
        {"k": 6, "alpha": 0.8, "pullback_momentum": "none"},
        partial(optim.SGD, lr=0.02, momentum=0.9, lookahead_steps=6, lookahead_alpha=0.8),
    ),
    "momentum, SAM": (
        "pytorch_optimizer",
        "SAM",
        {"rho": 0.1, "lr": 0.02, "momentum": 0.9},
        partial(optim.SGD, lr=0.02, momentum=0.9, sam_rho=0.1),
    ),
    "momentum, adaptive SAM": (
        "pytorch_optimizer",
        "SAM",
        {"rho": 0.05, "lr": 0.02, "momentum": 0.9, "adaptive": True},
        partial(optim.SGD, lr=0.02, momentum=0.9, sam_rho=0.05, sam_adaptive=True),
    ),
}


def reached(make):
    """The parameters to evaluate after the steps of an optimizer on a smooth, ill-conditioned function of matrices."""
    draws = torch.Generator().manual_seed(7)
    a, b = (nn.Parameter(torch.randn(shape, generator=draws, dtype=torch.float64)) for shape in ((4, 3), (3, 2)))
    scale = torch.tensor([0.1, 0.3, 1.0, 2.0], dtype=torch.float64)[:, None]
    target = torch.randn(4, 2, generator=draws, dtype=torch.float64)
    optimizer = make([a, b])

    def closure():
        optimizer.zero_grad()
        loss = (scale * (a.tanh() @ b - target)).square().sum() + 0.01 * (a.square().sum() + b.square().sum())
        loss.backward()
        return loss

    getattr(optimizer, "train", lambda: None)()
    for _ in range(STEPS):
        if hasattr(optimizer, "first_step"):
            closure()
        optimizer.step(closure)
    if "Lookahead" not in type(optimizer).__name__ and not hasattr(optimizer, "average"):
        getattr(optimizer, "eval", lambda: None)()
    return [v for p in (a, b) for v in p.detach().flatten().tolist()]


def theirs(name):
    package, cls, options, _ = CASES[name]
    make = getattr(importlib.import_module(package), cls)
    if cls == "Lookahead":
        return reached(lambda p: make(torch.optim.SGD(p, lr=0.02, momentum=0.9), **options))
    if cls == "SAM":
        return reached(lambda p: make(p, torch.optim.SGD, **options))
    return reached(lambda p: make(p, **options))


def ours(name):
    def make(params):
        optimizer = CASES[name][-1](params)
        if "schedule-free" in name:
            made.append(optimizer)
        return optimizer

    made = []
    found = reached(make)
    if made:  # what is evaluated
        made[0].eval()
        found = [v for p in made[0].param_groups[0]["params"] for v in p.detach().flatten().tolist()]
    return found


@pytest.mark.parametrize("name", CASES)
def test_we_reach_what_they_reach(name):
    held = json.loads(FILE.read_text())[name]
    assert ours(name) == pytest.approx(held["reached"], rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_they_reach_what_is_recorded(name):
    package = CASES[name][0]
    pytest.importorskip(package, reason=f"needs the package {package}, whose results are recorded")
    held = json.loads(FILE.read_text())[name]
    assert theirs(name) == pytest.approx(held["reached"], rel=1e-6, abs=1e-8)


if __name__ == "__main__":
    found = {
        name: {"by": f"{case[0]} {importlib.metadata.version(case[0])}", "reached": theirs(name)}
        for name, case in CASES.items()
    }
    FILE.write_text(json.dumps(found, indent=1) + "\n")
