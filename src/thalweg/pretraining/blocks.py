"""A model as a chain of blocks, each of which takes what the one before gives."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.tensors.as_trained import eval_mode
from thalweg.tensors.layers import NORMS
from thalweg.tensors.parts import check_layer

Blocks = Sequence[str | Sequence[str]]


def blocks_of(model: nn.Module) -> list[list[str]]:
    """Returns the children of a sequential model cut into blocks, the output block last.

    A block begins with a child that has parameters and is no normalization; what follows it belongs to it.

    Raises:
        ValueError: another kind of model, or one with fewer than two blocks.

    >>> blocks_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)))
    [['0', '1', '2', '3'], ['4']]
    """
    if not isinstance(model, nn.Sequential):
        raise ValueError(
            f"a {type(model).__name__} has no visible order of blocks: pass blocks=, the names of its hidden blocks"
        )
    blocks: list[list[str]] = []
    head: list[str] = []
    for name, child in model.named_children():
        if any(True for _ in child.parameters()) and not isinstance(child, NORMS):
            blocks.append([*head, name])
            head = []
        elif blocks:
            blocks[-1].append(name)
        else:
            head.append(name)
    if len(blocks) < 2:
        raise ValueError(f"the model has {len(blocks)} blocks with parameters: it needs a hidden block and an output")
    return blocks


def checked_blocks(model: nn.Module, blocks: Blocks, inputs: Any) -> list[list[str]]:
    """Returns the hidden blocks as lists of names, once it is seen that each takes what the one before gives.

    Raises:
        ValueError: no blocks, one that does not exist, has no parameters, or does not follow the one before.
    """
    named = [[block] if isinstance(block, str) else list(block) for block in blocks]
    if not named or not all(named):
        raise ValueError("there are no blocks: name at least one hidden block of the model")
    chain = [name for block in named for name in block]
    for name in chain:
        check_layer(model, name)
    for block in named:
        if not any(p.requires_grad for name in block for p in model.get_submodule(name).parameters()):
            raise ValueError(f"block {block[0]!r} has no parameters: join it to a block that has some")
    taken: dict[str, Any] = {}
    given: dict[str, Any] = {}

    def hook(name: str) -> Any:
        def seen(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            taken[name], given[name] = (args[0].clone() if isinstance(args[0], Tensor) else args[0]), output

        return seen

    handles = [model.get_submodule(name).register_forward_hook(hook(name)) for name in chain]
    try:
        with eval_mode(model):
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    before, value = "the model's input", inputs
    for name in chain:
        if not isinstance(taken.get(name), Tensor) or not isinstance(value, Tensor) or not _same(taken[name], value):
            raise ValueError(
                f"block {name!r} does not accept the output of {before!r}: name the blocks in their order, with "
                "everything that is computed between them"
            )
        before, value = name, given[name]
    return named


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(torch.equal(a, b))
