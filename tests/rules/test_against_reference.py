"""Every rule equals its slow twin in book notation, in float64, over 100 steps on a quadratic that is no bowl."""

import numpy as np
import pytest
import torch

from tests.reference import rules as book
from thalweg.rules import RULES, SGD, AdaGrad, Adam, Partnered, RMSProp, apply, scalars_of_step

RNG = np.random.default_rng(3)
A = RNG.standard_normal((7, 7))
H, B = A @ A.T / 7 + 0.1 * np.eye(7), RNG.standard_normal(7)
START = RNG.standard_normal(7)
STEPS = 100


def gradient(θ):
    return H @ θ - B + 0.1 * np.sin(3 * θ)


def ours(rule, **hyper):
    settings = {**rule.defaults, **hyper}
    θ = torch.tensor(START)
    state = {name: torch.full_like(θ, value) for name, value in rule.buffers.items()}
    scalars, path = dict(rule.scalar_state), []
    for t in range(1, STEPS + 1):
        c, scalars = scalars_of_step(rule, settings, t, scalars)
        θ, state = apply(rule, θ, torch.tensor(gradient(θ.numpy())), state, c)
        path.append(θ.numpy())
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
    "adamw": (RULES["adamw"], {"lr": 0.01, "weight_decay": 0.1}, book.adam, {**ADAM, "λ": 0.1}),
}


def test_every_rule_has_a_twin():
    assert {name for name, rule in RULES.items() if not isinstance(rule, Partnered)} <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_equals_the_book(name):
    rule, hyper, twin, symbols = CASES[name]
    np.testing.assert_allclose(ours(rule, **hyper), twin(START, gradient, STEPS, **symbols), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_lanes_of_one_text_equal_single_runs(name):
    """A rule over rows (K, n) with coefficients (K, 1) gives each row what it gives that row alone."""
    rule, lrs = RULES[name], [1e-3, 1e-2, 0.1]
    grads = torch.tensor(RNG.standard_normal((20, 3, 5)))

    def run(lr, rows):
        hyper = {**rule.defaults, "lr": lr}
        θ = torch.ones(rows.shape[1:], dtype=torch.float64)
        state = {slot: torch.full_like(θ, value) for slot, value in rule.buffers.items()}
        scalars = dict(rule.scalar_state)
        for t, g in enumerate(rows, start=1):
            c, scalars = scalars_of_step(rule, hyper, t, scalars)
            θ, state = apply(rule, θ, g, state, c)
        return θ

    together = run(torch.tensor(lrs, dtype=torch.float64)[:, None], grads)
    for k, lr in enumerate(lrs):
        torch.testing.assert_close(together[k], run(lr, grads[:, k]), rtol=1e-12, atol=1e-14)
