"""Every rule for matrices equals its slow twin in float64 over 200 steps, in stacks as alone, whatever the matrix."""

import numpy as np
import pytest
import torch

from tests.reference import matrices as paper
from thalweg.rules import RULES, SOAP, Muon, Partnered, Shampoo, apply, scalars_of_step
from thalweg.rules.matrix_rule import REFRESH

STEPS = 200
RNG = np.random.default_rng(5)
SHAPES = {"square": (5, 5), "tall": (7, 3), "wide": (3, 8), "a row": (1, 4), "a column": (4, 1)}
STARTS = {name: RNG.standard_normal(shape) for name, shape in SHAPES.items()}
TARGETS = {name: 8 * RNG.standard_normal(shape) for name, shape in SHAPES.items()}  # so far that none gets there


def gradient_of(name):
    """A bowl that is no quadratic, with rows of unlike curvature."""
    scale = np.linspace(0.5, 3, SHAPES[name][0])[:, None]
    return lambda W: scale * (W - TARGETS[name]) + 0.1 * np.sin(3 * W)


def step(rule, W, grad, state, t, **hyper):
    c, _ = scalars_of_step(rule, {**rule.defaults, **hyper}, t, {})
    state = rule.gather(grad, state, c)
    if which := c.pop(REFRESH, 0):
        state = rule.refresh(int(which), state, c)
    return apply(rule, W, grad, state, c)


def start_of(rule, W):
    state = {name: torch.full_like(W, value) for name, value in rule.buffers.items()}
    factors = rule.factors(*W.shape[-2:])
    return state | {name: W.new_zeros(*W.shape[:-2], *shape) for name, shape in factors.items()}


def ours(rule, name, **hyper):
    W = torch.tensor(STARTS[name])[None]
    state, path = start_of(rule, W), []
    for t in range(1, STEPS + 1):
        W, state = step(rule, W, torch.tensor(gradient_of(name)(W[0].numpy()))[None], state, t, **hyper)
        path.append(W[0].numpy())
    return path


CASES = {
    "muon": (Muon(), {"lr": 0.02}, paper.muon, {"η": 0.02, "λ": 0.1}),
    "muon, Moonshot's": (
        Muon(adjust_lr_fn="match_rms_adamw", nesterov=False),
        {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.3},
        paper.muon,
        {"η": 0.01, "μ": 0.9, "λ": 0.3, "nesterov": False, "scale": "Moonshot"},
    ),
    "muon, other coefficients": (
        Muon(ns_steps=3, ns_coefficients=(2.0, -1.5, 0.5)),
        {"lr": 0.02, "weight_decay": 0.0},
        paper.muon,
        {"η": 0.02, "K": 3, "abc": (2.0, -1.5, 0.5)},
    ),
    "soap": (SOAP(), {"lr": 0.01, "eps": 1e-3}, paper.soap, {"η": 0.01, "ε": 1e-3, "λ": 0.01}),
    "soap, one side": (
        SOAP(max_precond_dim=4),
        {"lr": 0.02, "beta1": 0.9, "beta2": 0.99, "shampoo_beta": 0.8, "eps": 1e-3, "weight_decay": 0.0}
        | {"precondition_frequency": 3},
        paper.soap,
        {"η": 0.02, "β1": 0.9, "β2": 0.99, "β": 0.8, "ε": 1e-3, "every": 3, "most": 4},
    ),
    "shampoo": (
        Shampoo(),
        {"lr": 0.01, "eps": 1e-4, "weight_decay": 0.1},
        paper.shampoo,
        {"η": 0.01, "β1": 0.9, "β2": 0.999, "ε": 1e-4, "λ": 0.1, "graft": "adam", "every": 10},
    ),
    "shampoo, as first published": (
        Shampoo(graft="none"),
        {"lr": 0.5, "beta1": 0.0, "beta2": 1.0, "eps": 1e-4, "precondition_frequency": 1},
        paper.shampoo,
        {"η": 0.5, "ε": 1e-4},
    ),
    "shampoo, one side": (
        Shampoo(graft="sgd", max_precond_dim=4),
        {"lr": 0.01, "beta2": 0.9, "eps": 1e-6, "precondition_frequency": 7},
        paper.shampoo,
        {"η": 0.01, "β1": 0.9, "β2": 0.9, "ε": 1e-6, "graft": "sgd", "every": 7, "most": 4},
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CASES)
def test_equals_the_paper(name, shape):
    rule, hyper, twin, symbols = CASES[name]
    expected = twin(STARTS[shape], gradient_of(shape), STEPS, **symbols)
    np.testing.assert_allclose(ours(rule, shape, **hyper), expected, rtol=1e-7, atol=1e-8)


def test_every_rule_for_matrices_has_a_twin():
    assert {rule.matrix for rule in RULES.values() if isinstance(rule, Partnered)} <= {
        type(rule)(**{k: v for k, v in vars(rule).items() if k == "adjust_lr_fn"}) for rule, *_ in CASES.values()
    }


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if isinstance(rule, Partnered)])
@pytest.mark.parametrize("shape", ["square", "tall", "wide"])
def test_a_stack_of_lanes_gives_each_matrix_what_it_gets_alone(name, shape):
    rule, lrs = RULES[name].matrix, [1e-3, 1e-2, 0.1]
    starts, grads = torch.tensor(RNG.standard_normal((2, 3, 2, *SHAPES[shape]))).unbind()
    rates = torch.tensor(lrs, dtype=torch.float64).view(3, 1, 1, 1)
    together, state = starts, start_of(rule, starts)
    alone = [[starts[k, i][None] for i in range(2)] for k in range(3)]
    states = [[start_of(rule, W) for W in row] for row in alone]
    for t in range(1, 6):
        together, state = step(rule, together, grads * t, state, t, lr=rates)
        for k, lr in enumerate(lrs):
            for i in range(2):
                g = grads[k, i][None] * t
                alone[k][i], states[k][i] = step(rule, alone[k][i], g, states[k][i], t, lr=lr)
    expected = torch.stack([torch.cat(row) for row in alone])
    torch.testing.assert_close(together, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if isinstance(rule, Partnered)])
def test_what_has_no_rank_or_is_no_number_stays_in_its_matrix(name):
    """Zero, rank one, huge, tiny and NaN beside a sound matrix."""
    rule = RULES[name].matrix
    sound = torch.tensor(STARTS["square"])
    rank_one = torch.outer(sound[0], sound[1])
    kinds = [sound, torch.zeros_like(sound), rank_one, sound * 1e30, sound * 1e-30, torch.full_like(sound, torch.nan)]
    grads, W = torch.stack(kinds), torch.ones(len(kinds), 5, 5, dtype=torch.float64)
    state, one, alone = start_of(rule, W), torch.ones(1, 5, 5, dtype=torch.float64), {}
    alone = start_of(rule, one)
    for t in range(1, 15):
        W, state = step(rule, W, grads, state, t, lr=0.01, weight_decay=0.0)
        one, alone = step(rule, one, grads[:1], alone, t, lr=0.01, weight_decay=0.0)
    assert W[:-1].isfinite().all()
    torch.testing.assert_close(W[1], torch.ones_like(W[1]))
    torch.testing.assert_close(W[:1], one, rtol=1e-9, atol=1e-12)


def test_singular_values_are_brought_near_one():
    from thalweg.rules.muon import COEFFICIENTS, orthogonalized

    matrices = torch.tensor(RNG.standard_normal((4, 6, 9)))
    values = torch.linalg.svdvals(orthogonalized(matrices, 5, COEFFICIENTS, 1e-7, torch.float64))
    assert values.min() > 0.6
    assert values.max() < 1.25
