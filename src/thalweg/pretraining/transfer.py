"""Transfer: the first blocks come from a model that was trained on a related task, the rest starts anew.

Source: Deep Learning, §8.7.4; Yosinski, Clune, Bengio & Lipson 2014.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Generator, Tensor, nn

from thalweg.initialization import initialize
from thalweg.pretraining.blocks import blocks_of
from thalweg.pretraining.weights import load_weights
from thalweg.stages import Plan, Stage
from thalweg.tensors.ranges import is_within


def transfer(
    model: nn.Module,
    source: nn.Module | Mapping[str, Tensor] | str | Path,
    stage: Stage,
    parts: int | Sequence[str],
    *,
    rate: float = 0.1,
    scheme: str | None = "default",
    generator: Generator | None = None,
) -> Plan:
    """Puts the first blocks of a trained model into another, in place, and returns the plan that trains it.

    Arguments:
        model: what is to be trained.
        source: a module, a state dict, or a file (:func:`~thalweg.pretraining.read_weights`), with the parts under the
            same names and of the same shapes.
        stage: trains the model.
        parts: names of modules that are taken; or of an ``nn.Sequential``, how many of its first blocks.
        rate: factor on the learning rate of what was taken; 0 freezes it, in eval mode.
        scheme: how all else is drawn anew, a name of :data:`thalweg.initialization.SCHEMES`; None leaves it as it is.
        generator: source of those draws, on the CPU; by default one seeded from torch's global generator.

    Returns:
        A :class:`~thalweg.stages.Plan` of one stage for the model.

    Raises:
        ValueError: parts that the model does not have, or the source not alike, with all names listed; nothing that
            is left to train; a negative rate. The model is then as it was.
        FileError: a file that cannot be read.

    >>> import torch
    >>> from thalweg.stages import supervised
    >>> old = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 10))
    >>> new = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> stage = Stage(objective=supervised(nn.functional.cross_entropy), data=[], optimizer=torch.optim.Adam, steps=9)
    >>> plan = transfer(new, old, stage, 1, rate=0)
    >>> torch.equal(new[0].weight, old[0].weight), plan.stages[0].trainable
    (True, ['2'])

    Source: Deep Learning, §8.7.4; Yosinski et al. 2014.
    """
    if not is_within(rate, 0):
        raise ValueError(f"rate is {rate}: give a factor of at least 0, which freezes the blocks")
    if isinstance(parts, int):
        blocks = blocks_of(model)
        if not 1 <= parts < len(blocks):
            raise ValueError(f"parts is {parts}: give 1 to {len(blocks) - 1} of the model's {len(blocks)} blocks")
        parts = [name for block in blocks[:parts] for name in block if any(model.get_submodule(name).state_dict())]
    rest = _rest(model, parts)
    if not rate and not rest:
        raise ValueError(
            "the whole model is transferred and rate is 0, so that nothing is trained: transfer fewer blocks, or "
            "pass a rate"
        )
    before = {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    try:
        if scheme is not None:
            initialize(model, scheme, generator)
        load_weights(model, source, parts)
    except Exception:
        for name, value in before.items():
            model.state_dict()[name].copy_(value)
        raise
    if rate:
        return Plan(model, [replace(stage, rates={**dict.fromkeys(parts, rate), **stage.rates})])
    return Plan(model, [replace(stage, trainable=rest)])


def _rest(model: nn.Module, parts: Sequence[str], at: str = "") -> list[str]:
    """Returns the names of the largest modules, and of parameters, that hold nothing of the parts."""
    found = [at + name for name, _ in model.named_parameters(recurse=False) if at + name not in parts]
    for name, child in model.named_children():
        path = at + name
        if path in parts or not any(True for _ in child.parameters()):
            continue
        inner = any(part.startswith(path + ".") for part in parts)
        found += _rest(child, parts, path + ".") if inner else [path]
    return found
