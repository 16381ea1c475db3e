"""Two points of one optimizer: the parameters that are trained, and those that are evaluated where they are others."""

from abc import abstractmethod
from typing import Any

import torch
from torch.optim import Optimizer

from thalweg.optim.settings import with_switches
from thalweg.rules.rule import Rule

MODE, KEPT = "train_mode", "trained"  # of a group whose parameters are those to evaluate; of a parameter's state, then


class Points(Optimizer):
    """What an optimizer's ``train()`` and ``eval()`` do; nothing, of a rule that evaluates what it trains."""

    @abstractmethod
    def rule_of(self, group: dict[str, Any]) -> Rule:
        """Returns the form of the rule that the group's settings ask for."""

    def form_of(self, group: dict[str, Any]) -> Rule:
        """Returns the group's rule with what its settings switch on around it."""
        return with_switches(self.rule_of(group), group)

    @torch.no_grad()
    def eval(self) -> None:
        """Puts the parameters to evaluate into the model; call it before evaluating, or saving the model for use."""
        for group in self.param_groups:
            name = self.form_of(group).shown
            if name is None or not group.get(MODE, True):
                continue
            group[MODE] = False
            for p in group["params"]:
                state = self.state.get(p) or {}
                if name in state:
                    state[KEPT] = p.detach().clone(memory_format=torch.preserve_format)
                    p.copy_(state[name])

    @torch.no_grad()
    def train(self) -> None:
        """Puts the parameters that are trained back into the model; call it before the next forward pass."""
        for group in self.param_groups:
            if group.get(MODE, True):
                continue
            group[MODE] = True
            for p in group["params"]:
                kept = (self.state.get(p) or {}).pop(KEPT, None)
                if kept is not None:
                    p.copy_(kept)


def check_mode(owner: str, group: dict[str, Any]) -> None:
    """Raises RuntimeError unless the group's parameters are those that are trained."""
    if not group.get(MODE, True):
        raise RuntimeError(
            f"the model has the parameters to evaluate: call {owner}.train() before the forward pass of a training step"
        )
