"""The optimizer of a strategy, and its state as flat names to tensors."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.compare.execution.divided import divide
from thalweg.compare.execution.partners import NoMatrices, matrices_of, partnered
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.factories import PARTNERS_LR, made_by, names_parameters
from thalweg.compare.task.grouping import Grouping
from thalweg.optim import no_decay_groups
from thalweg.optim.decay import Decay
from thalweg.optim.of_rule import OfRule
from thalweg.optim.roles import Role
from thalweg.rules import AdamW


def make_optimizers(
    strategy: Strategy,
    model: nn.Module,
    hyper: Mapping[str, float],
    decay: Decay = "all",
    grouping: Grouping | None = None,
    roles: Callable[[], Mapping[str, Role]] | None = None,
) -> list[torch.optim.Optimizer]:
    """Returns the strategy's optimizer for the model's trainable parameters, which applies weight decay as asked.

    One of matrices, as Muon is, gets the hidden ones, by ``roles`` or as they are guessed, and AdamW steps the rest; so
    does a factory that refuses the rest, where AdamW has its default settings.

    Raises:
        ValueError: the factory refuses the parameters.
    """
    made = _made(strategy, model, hyper, decay, roles)
    if grouping:
        own = grouping.settings(model)
        for optimizer in made:
            divide(strategy, optimizer, own)
    return made


def _made(
    strategy: Strategy,
    model: nn.Module,
    hyper: Mapping[str, float],
    decay: Decay,
    roles: Callable[[], Mapping[str, Role]] | None,
) -> list[torch.optim.Optimizer]:
    params = [p for p in model.parameters() if p.requires_grad]
    try:
        if strategy.has_partner:
            own = matrices_of(strategy, model, None if roles is None else roles())
            return partnered(strategy, params, hyper, decay, own)
        return [optimizer_for(strategy, params, hyper, decay, model)]
    except NoMatrices:
        raise
    except Exception as error:
        if strategy.factory is not None and not strategy.has_partner and not names_parameters(strategy.factory):
            alone = replace(strategy, defaults={**strategy.defaults, PARTNERS_LR: AdamW.defaults["lr"]})
            try:
                own = matrices_of(alone, model, None if roles is None else roles())
                return partnered(alone, params, {**alone.defaults, **hyper}, decay, own)
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
    strategy: Strategy,
    params: Any,
    hyper: Mapping[str, float],
    decay: Decay = "all",
    model: nn.Module | None = None,
    roles: Mapping[str, Role] | None = None,
) -> torch.optim.Optimizer:
    """Returns the strategy's optimizer for parameters, or groups of them, which are a ``model``'s where one is given.

    For ``decay="weights"`` the groups of any optimizer that has torch's ``weight_decay`` are divided. One of matrices
    and its partner are one, which steps both; the matrices are those of the model's ``roles``.

    Raises:
        TypeError: the factory makes something else.
    """
    if strategy.has_partner:
        matrices = None if model is None else matrices_of(strategy, model, roles)
        return one_of(partnered(strategy, params, hyper, decay, matrices))
    if strategy.rule is not None:
        return OfRule(params, strategy.rule, strategy.stepping(hyper), decay=decay)
    assert strategy.factory is not None
    optimizer = made_by(strategy.factory, params, strategy.stepping(hyper), model)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"it gives a {type(optimizer).__name__}, not a torch.optim.Optimizer")
    if decay == "weights":
        for group in [group for group in optimizer.param_groups if group.get("weight_decay")]:
            first, *rest = no_decay_groups([group])
            group.update(first)
            for part in rest:
                optimizer.add_param_group(part)
    return optimizer


def groups_for(
    strategy: Strategy, params: Any, hyper: Mapping[str, float], decay: Decay = "all"
) -> list[torch.optim.Optimizer]:
    """Returns the strategy's optimizer for parameters or groups that the user made.

    Raises:
        ValueError: the factory refuses them.
    """
    try:
        if strategy.has_partner:
            return partnered(strategy, params, hyper, decay, None)
        return [optimizer_for(strategy, params, hyper, decay)]
    except NoMatrices:
        raise
    except Exception as error:
        raise refused(strategy, hyper, error) from error


class _Together(torch.optim.Optimizer):
    """Several optimizers as one, which steps all of them."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        super().__init__([p for o in optimizers for group in o.param_groups for p in group["params"]], {})
        self.optimizers = list(optimizers)
        self.param_groups = [group for optimizer in optimizers for group in optimizer.param_groups]

    def step(self, closure: Any = None) -> Any:
        loss = self.optimizers[0].step(closure)
        for optimizer in self.optimizers[1:]:
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        parts = {str(i): optimizer.state_dict() for i, optimizer in enumerate(self.optimizers)}
        return {"state": parts, "param_groups": []}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for i, optimizer in enumerate(self.optimizers):
            optimizer.load_state_dict(state_dict["state"][str(i)])


def one_of(optimizers: Sequence[torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """Returns the optimizer, or one that steps all of them."""
    return optimizers[0] if len(optimizers) == 1 else _Together(optimizers)


def members(optimizer: torch.optim.Optimizer) -> list[torch.optim.Optimizer]:
    """Returns the optimizers that one steps."""
    return optimizer.optimizers if isinstance(optimizer, _Together) else [optimizer]


def set_mode(optimizers: Sequence[torch.optim.Optimizer], mode: str) -> None:
    """Calls ``train()`` or ``eval()`` of optimizers that have them, whose parameters to judge are others."""
    for optimizer in optimizers:
        if callable(change := getattr(optimizer, mode, None)):
            change()


def state_of(optimizers: Sequence[torch.optim.Optimizer], most: float = math.inf) -> dict[str, Tensor]:
    """Returns all that the optimizers' ``state_dict()`` holds, nested as it may be, as flat names to tensors.

    The tree of it stands under ``tree`` as JSON, in which a tensor is a number. Tensors of more than ``most`` bytes are
    left out.

    Raises:
        ValueError: it holds something else than tensors, numbers, texts, and lists, tuples and dicts of them.
    """
    return packed([_plain(optimizer.state_dict()) for optimizer in optimizers], "the optimizer's state_dict()", most)


def packed(value: Any, what: str, most: float = math.inf) -> dict[str, Tensor]:
    """Returns tensors, numbers and texts in lists, tuples and dicts as flat names to tensors; see :func:`state_of`.

    Raises:
        ValueError: there is something else among them; ``what`` names it.
    """
    held: list[Tensor] = []
    try:
        tree = _packed(value, held, most)
    except _NotPlain as error:
        raise ValueError(
            f"{what} holds a {error}, so that no trial of it can go on from a rung: keep tensors, numbers and texts "
            "there"
        ) from error
    text = torch.frombuffer(bytearray(json.dumps(tree).encode()), dtype=torch.uint8)
    return {"tree": text, **{str(i): tensor for i, tensor in enumerate(held)}}


def unpacked(held: Mapping[str, Tensor]) -> Any:
    """Returns what :func:`packed` was given."""
    return _unpacked(json.loads(bytes(held["tree"].tolist())), held)


class _NotPlain(Exception):
    """Names the type of a value that is not packed."""


def put_state(optimizers: Sequence[torch.optim.Optimizer], held: Mapping[str, Tensor]) -> None:
    """Puts back what :func:`state_of` returned, in its own types; where that is nothing, nothing changes."""
    if not held:
        return
    trees = json.loads(bytes(held["tree"].tolist()))["list"]
    for optimizer, tree in zip(optimizers, trees, strict=True):
        state, own = _unpacked(tree, held), optimizer.state_dict()["param_groups"]
        groups = [{**made, **group} for made, group in zip(own, state["param_groups"], strict=True)]
        optimizer.load_state_dict({**state, "param_groups": groups})
        params = [p for group in optimizer.param_groups for p in group["params"]]
        for key, entries in _unpacked(tree, held)["state"].items():
            if isinstance(key, int) and isinstance(entries, dict):  # torch's loading gives them the parameter's type
                p = params[key]
                optimizer.state[p] = {name: _on(value, p.device) for name, value in entries.items()}


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a state dict without settings that are no numbers or texts, such as types: groups have them anyway."""
    groups = [{k: v for k, v in group.items() if _is_plain(v)} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (Tensor, bool, int, float, str))


def _packed(value: Any, held: list[Tensor], most: float) -> Any:
    if isinstance(value, Tensor):
        held.append(value)
        return {"tensor": len(held) - 1}
    if isinstance(value, Mapping):
        return {"dict": [[k, _packed(v, held, most)] for k, v in value.items() if _bytes(v) <= most]}
    if isinstance(value, (list, tuple)):
        return {"tuple" if isinstance(value, tuple) else "list": [_packed(v, held, most) for v in value]}
    if _is_plain(value):
        return value
    raise _NotPlain(type(value).__name__)


def _bytes(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0


def _unpacked(tree: Any, held: Mapping[str, Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, inner),) = tree.items()
    if kind == "tensor":
        return held[str(inner)].clone()
    if kind == "dict":
        return {k: _unpacked(v, held) for k, v in inner}
    values = [_unpacked(v, held) for v in inner]
    return tuple(values) if kind == "tuple" else values


def _on(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value if value.dim() == 0 else value.to(device)
    if isinstance(value, dict):
        return {name: _on(one, device) for name, one in value.items()}
    return type(value)(_on(one, device) for one in value) if isinstance(value, (list, tuple)) else value
