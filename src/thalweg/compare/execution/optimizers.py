"""The optimizer of a strategy, and its state as flat names to tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.compare.strategy import Strategy
from thalweg.optim import AdamW, no_decay_groups
from thalweg.optim.decay import Decay
from thalweg.optim.of_rule import OfRule


def make_optimizers(
    strategy: Strategy, model: nn.Module, hyper: Mapping[str, float], decay: Decay = "all"
) -> list[torch.optim.Optimizer]:
    """Returns the strategy's optimizer for the model's trainable parameters, which applies weight decay as asked.

    One that takes matrices alone, as Muon does, gets those, and AdamW at its defaults steps the rest.

    Raises:
        ValueError: the factory refuses the parameters.
    """
    params = [p for p in model.parameters() if p.requires_grad]
    try:
        return [optimizer_for(strategy, params, hyper, decay)]
    except Exception as error:
        matrices, rest = [p for p in params if p.dim() == 2], [p for p in params if p.dim() != 2]
        if matrices and rest:
            try:
                return [optimizer_for(strategy, matrices, hyper, decay), AdamW(rest, decay=decay)]
            except Exception:
                pass  # matrices are not what it asks for: the first error is the one to show
        raise refused(strategy, hyper, error) from error


def refused(strategy: Strategy, hyper: Mapping[str, float], error: Exception) -> ValueError:
    """Returns what is to be raised where a strategy refuses the parameters."""
    line = (str(error).splitlines() or ["no message"])[0]
    settings = ", ".join(f"{k}={v:g}" for k, v in strategy.stepping(hyper).items())
    return ValueError(
        f"strategy {strategy.name!r} cannot step this model with {settings} ({type(error).__name__}: {line}): "
        "write my.py:strategy, a function of the parameters that makes the optimizer"
    )


def optimizer_for(
    strategy: Strategy, params: Any, hyper: Mapping[str, float], decay: Decay = "all"
) -> torch.optim.Optimizer:
    """Returns the strategy's optimizer for parameters, or groups of them.

    For ``decay="weights"`` the groups of any optimizer that has torch's ``weight_decay`` are divided.

    Raises:
        TypeError: the factory makes something else.
    """
    if strategy.rule is not None:
        return OfRule(params, strategy.rule, strategy.stepping(hyper), decay=decay)
    assert strategy.factory is not None
    optimizer = strategy.factory(params, **strategy.stepping(hyper))
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"it gives a {type(optimizer).__name__}, not a torch.optim.Optimizer")
    if decay == "weights":
        for group in [group for group in optimizer.param_groups if group.get("weight_decay")]:
            first, *rest = no_decay_groups([group])
            group.update(first)
            for part in rest:
                optimizer.add_param_group(part)
    return optimizer


def state_of(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Returns the optimizers' states as flat names to tensors; of lists, those whose every entry is a tensor."""
    flat: dict[str, Any] = {}
    for which, optimizer in enumerate(optimizers):
        for index, entries in optimizer.state_dict()["state"].items():
            for name, value in entries.items():
                key = f"{which}.{index}.{name}"
                if isinstance(value, list) and all(isinstance(v, Tensor) for v in value):
                    flat |= {f"{key}.{i}": v for i, v in enumerate(value)} if value else {f"{key}.": torch.zeros(0)}
                elif isinstance(value, (Tensor, int, float)):
                    flat[key] = value
    return {key: torch.as_tensor(value) for key, value in flat.items()}


def put_state(optimizers: Sequence[torch.optim.Optimizer], held: Mapping[str, Tensor]) -> None:
    """Puts back what :func:`state_of` returned; where that is nothing, optimizers stay as they are."""
    if not held:
        return
    states: list[dict[int, dict[str, Any]]] = [{} for _ in optimizers]
    for key, value in held.items():
        which, index, name, *place = key.split(".")
        entries = states[int(which)].setdefault(int(index), {})
        if not place:
            entries[name] = value.clone()
        else:
            entries.setdefault(name, []).extend([value.clone()] if place[0] else [])
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
