"""The groups of any optimizer divided, so that parameters have learning rates and weight decays of their own.

They are divided once the optimizer is there, whoever made it and whatever groups it has: their rates are multiplied.
"""

from collections.abc import Mapping
from typing import Any

import torch

from thalweg.compare.strategy import Strategy
from thalweg.compare.task.grouping import Setting
from thalweg.optim import ClosureOptimizer


def divide(strategy: Strategy, optimizer: torch.optim.Optimizer, own: Mapping[int, Setting]) -> None:
    """Divides the groups of an optimizer, so that parameters have the settings that are their own by ``id``.

    Raises:
        ValueError: the optimizer has no such setting, or one for all parameters.
    """
    several = any(own.get(id(p), Setting()).lr_scale != 1 for g in optimizer.param_groups for p in g["params"])
    if several and isinstance(optimizer, (ClosureOptimizer, torch.optim.LBFGS)):
        raise ValueError(
            f"strategy {strategy.name!r} steps all parameters together, so that no group has a rate of its own: omit "
            "lr_scale, or the strategy"
        )
    for group in list(optimizer.param_groups):
        parts: dict[Setting, list[int]] = {}
        for place, p in enumerate(group["params"]):
            parts.setdefault(_effective(own.get(id(p), Setting()), group), []).append(place)
        whole: dict[str, Any] = {key: group[key] for key in ("params", "param_names") if key in group}
        before = {key: value for key, value in group.items() if key not in whole}
        for number, (setting, places) in enumerate(parts.items()):
            members = {key: [values[i] for i in places] for key, values in whole.items()}
            settings = {**before, **_own_settings(strategy, setting, group=before), **members}
            if number == 0:
                group.update(settings)
            else:
                optimizer.add_param_group(settings)


def _effective(setting: Setting, group: Mapping[str, Any]) -> Setting:
    """Returns a setting as far as it changes a group: what has no weight decay needs not be spared any."""
    return (
        setting._replace(weight_decay=None) if setting.weight_decay == 0 and not group.get("weight_decay") else setting
    )


def _own_settings(strategy: Strategy, setting: Setting, group: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a group that differ from the whole's."""
    asked = {"lr": setting.lr_scale != 1, "weight_decay": setting.weight_decay is not None}
    for name, value in asked.items():
        if value and group.get(name) is None:
            raise ValueError(
                f"strategy {strategy.name!r} has no {name} for groups of parameters: omit it from the groups of the "
                "task, or the strategy"
            )
    values = {"lr": group.get("lr", 0.0) * setting.lr_scale, "weight_decay": setting.weight_decay}
    return {name: value for name, value in values.items() if asked[name]}
