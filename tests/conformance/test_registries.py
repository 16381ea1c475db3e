"""Every optimizer can be compared by a name, every name makes an optimizer, and a default stands in one place."""

import inspect
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from thalweg import optim
from thalweg.compare.execution.optimizers import optimizer_for
from thalweg.compare.strategy import DEFAULT_STRATEGIES, Strategy
from thalweg.compare.strategy.second_order import SECOND_ORDER
from thalweg.rules import RULES, SPACES, Rule

EXPORTED = [cls for name in sorted(optim.__all__) if isinstance(cls := getattr(optim, name), type)]
BASES = (optim.RuleOptimizer, optim.MatrixOptimizer)
BY_RULE = [c for c in EXPORTED if issubclass(c, optim.RuleOptimizer) and c not in BASES]
OF_MATRICES = [c for c in BY_RULE if issubclass(c, optim.MatrixOptimizer)]
BY_CLOSURE = [c for c in EXPORTED if issubclass(c, optim.ClosureOptimizer) and c is not optim.ClosureOptimizer]


def weight(of_matrices=False):
    return nn.Parameter(torch.ones((2, 2) if of_matrices else 2))


def test_every_optimizers_help_states_the_equation_of_its_step():
    assert [c.__name__ for c in (*BY_RULE, *BY_CLOSURE) if "θ ←" not in inspect.getdoc(c)] == []
    assert "r ← β₂ r + (1 − β₂) g ⊙ g" in inspect.getdoc(optim.Adam)


@pytest.mark.parametrize("cls", [*BY_RULE, *BY_CLOSURE])
def test_a_group_has_every_setting_of_the_constructor_as_it_was_given(cls):
    given = {n: p.default for n, p in inspect.signature(cls).parameters.items() if p.default is not p.empty}
    of_all = {"average", "process_group"}
    group = cls([weight(cls in OF_MATRICES)], **given).param_groups[0]
    assert {name: group[name] for name in given.keys() - of_all} == {n: v for n, v in given.items() if n not in of_all}
    assert group.keys() & {"self", "__class__", "options", *of_all} == set()


@pytest.mark.parametrize("cls", BY_RULE)
def test_every_optimizer_of_a_rule_is_compared_by_a_name_and_takes_the_rules_defaults(cls):
    optimizer = cls([weight(cls in OF_MATRICES)])
    group = optimizer.param_groups[0]
    rule = optimizer.rule_of(group)
    assert rule in [getattr(named, "matrix", named) for named in RULES.values()]
    hyper = optimizer.hyper_of(group)
    if rule.name in ("sgd", "rmsprop"):
        assert hyper.pop("momentum") == 0.0  # which asks for the form without momentum
    assert hyper == {name: rule.defaults[name] for name in hyper}


@pytest.mark.parametrize("cls", [c for c in BY_RULE if hasattr(torch.optim, c.__name__)])
def test_a_default_is_torchs(cls):
    reference = inspect.signature(getattr(torch.optim, cls.__name__)).parameters
    ours = inspect.signature(cls).parameters
    shared = [name for name in ours if name in reference and name not in ("self", "params")]
    assert {name: ours[name].default for name in shared} == {name: reference[name].default for name in shared}


def test_every_optimizer_that_takes_a_closure_is_compared_by_a_name():
    made = {type(optimizer_for(Strategy.parse(name), [weight()], _own(name))) for name in SECOND_ORDER}
    assert made == set(BY_CLOSURE)


@pytest.mark.parametrize("name", [*RULES, *SECOND_ORDER])
def test_every_name_makes_an_optimizer_at_its_first_configuration(name):
    strategy = Strategy.parse(name)
    first = strategy.default_configuration()
    assert all(low <= first[key] <= high for key, (low, high) in strategy.space.items())
    optimizer = optimizer_for(strategy, [weight(strategy.has_partner)], strategy.stepping(first))
    assert optimizer.param_groups[0]["lr"] == first.get("lr", 1.0)


def test_the_tables_have_the_same_names():
    assert set(SPACES) == set(RULES) >= set(DEFAULT_STRATEGIES)
    assert not set(RULES) & set(SECOND_ORDER)


@dataclass(frozen=True)
class Bounded(Rule):
    """A rule that the package does not have, as a contributor writes it: what it calls is not listed anywhere."""

    name: ClassVar = "bounded"
    defaults: ClassVar = {"lr": 1e-4, "beta": 0.9, "weight_decay": 0.0}
    decay: ClassVar = "decoupled"
    buffers: ClassVar = {"exp_avg": 0.0}

    def coefficients(self, hyper, t, scalars):
        return {"minus_lr": -hyper["lr"], "beta": hyper["beta"]}, {}

    def update(self, grad, state, c):
        m = state["exp_avg"] * c["beta"] + (1 - c["beta"]) * grad
        return m.tanh() * c["minus_lr"], {"exp_avg": m}


@pytest.mark.parametrize("options", [{}, {"capturable": True}, {"skip_nonfinite": True}])
def test_a_rule_of_any_tensor_methods_is_stepped_list_by_list(options):
    p, (m, w) = weight(), (torch.zeros(2), torch.ones(2))

    class Optimizer(optim.RuleOptimizer):
        def __init__(self, params):
            super().__init__(params, {**Bounded.defaults, "lr": 0.1, "weight_decay": 0.1}, "auto", False, options)

        def rule_of(self, group):
            return Bounded()

    optimizer = Optimizer([p])
    for step in range(4):
        p.grad = g = torch.tensor([1.0, -2.0]) * (-1.5) ** step
        optimizer.step()
        m = 0.9 * m + 0.1 * g
        w = w * (1 - 0.1 * 0.1) - 0.1 * m.tanh()
        torch.testing.assert_close(p.detach(), w)


def _own(name):
    strategy = Strategy.parse(name)
    return strategy.stepping(strategy.default_configuration())
