"""Every rule equals its slow twin in book notation, in float64, over 100 or 200 steps on a quadratic, no bowl."""

import numpy as np
import pytest
import torch

from tests.reference import rules as book
from thalweg.compare.execution.kernels import rows_reduced, slots_of
from thalweg.rules import (
    AFTER_THE_BOOK,
    RULES,
    SGD,
    AdaGrad,
    Adam,
    Partnered,
    Prodigy,
    RMSProp,
    apply,
    scalars_of_step,
    switched,
)
from thalweg.rules.rule import state_at_start
from thalweg.tensors import Layout

RNG = np.random.default_rng(3)
A = RNG.standard_normal((7, 7))
H, B = A @ A.T / 7 + 0.1 * np.eye(7), RNG.standard_normal(7)
START = RNG.standard_normal(7)
STEPS = 100  # at least; of later methods 200


def gradient(θ):
    return H @ θ - B + 0.1 * np.sin(3 * θ)


def ours(rule, steps, **hyper):
    settings = {**rule.defaults, **hyper}
    θ = torch.tensor(START)
    state = state_at_start(rule, θ)
    scalars, path = dict(rule.scalar_state), []
    for t in range(1, steps + 1):
        c, scalars = scalars_of_step(rule, settings, t, scalars)
        θ, state = apply(rule, θ, torch.tensor(gradient(θ.numpy())), state, c)
        path.append(θ.numpy() if rule.shown is None else np.concatenate([θ.numpy(), state[rule.shown].numpy()]))
    return path


ADAM = {"ε": 0.01, "ρ1": 0.9, "ρ2": 0.999, "δ": 1e-8}
CASES = {
    "sgd": (RULES["sgd"], {"lr": 0.1}, book.sgd, {"ε": 0.1}),
    "momentum": (SGD(momentum=True), {"lr": 0.05}, book.momentum, {"ε": 0.05, "α": 0.9}),
    "nesterov": (SGD(nesterov=True), {"lr": 0.05}, book.nesterov, {"ε": 0.05, "α": 0.9}),
    "adagrad": (AdaGrad(), {"lr": 0.3, "eps": 1e-7}, book.adagrad, {"ε": 0.3, "δ": 1e-7}),
    "adadelta": (RULES["adadelta"], {"lr": 2.0}, book.adadelta, {"ε": 2.0, "ρ": 0.9, "δ": 1e-6}),
    "rmsprop": (RMSProp(), {}, book.rmsprop, {"ε": 0.01, "ρ": 0.99, "δ": 1e-8, "inside": False}),
    "rmsprop, the book's": (
        RMSProp(eps_inside_sqrt=True),
        {"eps": 1e-6},
        book.rmsprop,
        {"ε": 0.01, "ρ": 0.99, "δ": 1e-6, "inside": True},
    ),
    "rmsprop-nesterov": (
        RULES["rmsprop-nesterov"],
        {"lr": 0.002},
        book.rmsprop_nesterov,
        {"ε": 0.002, "ρ": 0.99, "α": 0.9, "δ": 1e-8},
    ),
    "adam": (Adam(), {"lr": 0.01}, book.adam, ADAM),
    "adam-uncorrected": (Adam(bias_correction=False), {"lr": 0.01}, book.adam, {**ADAM, "corrected": False}),
    "amsgrad": (Adam(amsgrad=True), {"lr": 0.01}, book.adam, {**ADAM, "largest": True}),
    "nadam": (RULES["nadam"], {"lr": 0.01}, book.nadam, {**ADAM, "ψ": 4e-3}),
    "lion": (RULES["lion"], {"lr": 0.01, "weight_decay": 0.1}, book.lion, {"η": 0.01, "β1": 0.9, "β2": 0.99, "λ": 0.1}),
    "schedule-free-sgd": (
        RULES["schedule-free-sgd"],
        {"lr": 0.2, "warmup_steps": 20.0, "weight_decay": 0.01},
        book.schedule_free,
        {"γ": 0.2, "β": 0.9, "λ": 0.01, "warm": 20},
    ),
    "schedule-free-adamw": (
        RULES["schedule-free-adamw"],
        {"lr": 0.05, "warmup_steps": 20.0, "weight_decay": 0.01, "r": 1.0},
        book.schedule_free,
        {"γ": 0.05, "β": 0.9, "λ": 0.01, "warm": 20, "p": 1.0, "β2": 0.999, "ε": 1e-8},
    ),
    "ademamix": (
        RULES["ademamix"],
        {"lr": 0.01, "weight_decay": 0.1, "alpha_warmup": 120.0, "beta3_warmup": 150.0},
        book.ademamix,
        {"η": 0.01, "β": (0.9, 0.999, 0.9999), "α": 5.0, "Tα": 120, "Tβ": 150, "ε": 1e-8, "λ": 0.1},
    ),
    "adan": (
        RULES["adan"],
        {"lr": 0.01, "weight_decay": 0.1},
        book.adan,
        {"η": 0.01, "β": (0.02, 0.08, 0.01), "ε": 1e-8, "λ": 0.1},
    ),
    "lamb": (
        RULES["lamb"],
        {"lr": 0.01, "weight_decay": 0.1},
        book.lamb,
        {"η": 0.01, "β1": 0.9, "β2": 0.999, "ε": 1e-6, "λ": 0.1},
    ),
    "lars": (RULES["lars"], {"lr": 5.0, "weight_decay": 0.1}, book.lars, {"γ": 5.0, "η": 1e-3, "m": 0.9, "β": 0.1}),
    "prodigy": (
        RULES["prodigy"],
        {"weight_decay": 0.01, "growth_rate": 1.5, "d_coef": 0.5},
        book.prodigy,
        {"γ": 1.0, "β1": 0.9, "β2": 0.999, "ε": 1e-8, "λ": 0.01, "d0": 1e-6, "coef": 0.5, "growth": 1.5},
    ),
    "prodigy, safeguarded": (
        Prodigy(safeguard_warmup=True, bias_correction=True),
        {},
        book.prodigy,
        {"γ": 1.0, "β1": 0.9, "β2": 0.999, "ε": 1e-8, "λ": 0.0, "d0": 1e-6, "safe": True, "corrected": True},
    ),
    "adamw+cautious": (
        switched(RULES["adamw"], ["cautious"]),
        {"lr": 0.01, "weight_decay": 0.1},
        book.adamw_switched,
        {"ε": 0.01, "λ": 0.1, "cautious": True},
    ),
    "adamw+mars": (
        switched(RULES["adamw"], ["mars"]),
        {"lr": 0.01, "weight_decay": 0.1},
        book.adamw_switched,
        {"ε": 0.01, "λ": 0.1, "γ": 0.025},
    ),
    "adamw+mars+cautious": (
        switched(RULES["adamw"], ["cautious", "mars"]),
        {"lr": 0.01, "weight_decay": 0.1, "mars_gamma": 0.05},
        book.adamw_switched,
        {"ε": 0.01, "λ": 0.1, "γ": 0.05, "cautious": True},
    ),
    "momentum+lookahead": (
        switched(RULES["momentum"], ["lookahead"]),
        {"lr": 0.02, "lookahead_steps": 6.0, "lookahead_alpha": 0.8},
        book.momentum_lookahead,
        {"ε": 0.02, "μ": 0.9, "k": 6, "α": 0.8},
    ),
    "momentum+sam": (
        switched(RULES["momentum"], ["sam"]),
        {"lr": 0.02, "weight_decay": 0.1},
        book.momentum_sam,
        {"ε": 0.02, "μ": 0.9, "λ": 0.1, "ρ": 0.05},
    ),
    "momentum+asam": (
        switched(RULES["momentum"], ["asam"]),
        {"lr": 0.02, "weight_decay": 0.1},
        book.momentum_sam,
        {"ε": 0.02, "μ": 0.9, "λ": 0.1, "ρ": 0.5, "adaptive": True},
    ),
    "adamw": (RULES["adamw"], {"lr": 0.01, "weight_decay": 0.1}, book.adam, {**ADAM, "λ": 0.1}),
}


def test_every_rule_has_a_twin():
    assert {name for name, rule in RULES.items() if not isinstance(rule, Partnered)} <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_equals_the_book(name):
    rule, hyper, twin, symbols = CASES[name]
    steps = 2 * STEPS if "+" in name or name.partition(",")[0] in AFTER_THE_BOOK else STEPS
    found, expected = ours(rule, steps, **hyper), twin(START, gradient, steps, **symbols)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if not isinstance(rule, Partnered)])
def test_lanes_of_one_text_equal_single_runs(name):
    """A rule over rows (K, n) with coefficients (K, 1) gives each row what it gives that row alone."""
    rule, lrs = RULES[name], [1e-3, 1e-2, 0.1]
    grads = torch.tensor(RNG.standard_normal((20, 3, 5)))

    def run(lr, rows):
        hyper = {**rule.defaults, "lr": lr}
        θ = torch.ones(rows.shape[1:], dtype=torch.float64)
        state = {slot: held.begun(θ) for slot, held in slots_of(rule, False).items()}
        reduce = rows_reduced(Layout.of({"a": torch.zeros(2), "b": torch.zeros(3)}), θ.device)
        scalars = dict(rule.scalar_state)
        for t, g in enumerate(rows, start=1):
            c, scalars = scalars_of_step(rule, hyper, t, scalars)
            θ, state = apply(rule, θ, g, state, c, reduce)
        return θ

    together = run(torch.tensor(lrs, dtype=torch.float64)[:, None], grads)
    for k, lr in enumerate(lrs):
        torch.testing.assert_close(together[k], run(lr, grads[:, k : k + 1])[0], rtol=1e-12, atol=1e-14)
