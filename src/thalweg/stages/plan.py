"""A plan: stages in order, and the module that holds all that they train."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from thalweg.stages.stage import Stage


@dataclass(frozen=True)
class Plan:
    """Stages in order for one module, which may hold more than the model: temporary heads, a regressor.

    Arguments:
        model: what every stage's objective is given; its state is all that outlives a stage.
        stages: at least one.

    >>> stage = Stage(objective=lambda m, x, t: m(x).sum(), data=[], optimizer=None, epochs=1, name="joint")
    >>> print(Plan(nn.Linear(1, 1), [stage]))
    joint: 1 epochs
    """

    model: nn.Module
    stages: Sequence[Stage]

    def __str__(self) -> str:
        budgets = [f"{s.epochs} epochs" if s.steps is None else f"{s.steps} steps" for s in self.stages]
        return "\n".join(f"{s.name}: {budget}" for s, budget in zip(self.stages, budgets, strict=True))
