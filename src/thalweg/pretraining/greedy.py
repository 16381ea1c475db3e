"""Greedy supervised pretraining: one hidden block after another, each with an output layer of its own for a while.

    block k:   min over θ_k, head_k of  J(head_k ∘ f_k ∘ f_{k−1} ∘ … ∘ f_1),   θ_1 … θ_{k−1} as they were left
    then:      min over all θ of        J(f)

Source: Deep Learning, §8.7.4; Bengio, Lamblin, Popovici & Larochelle 2007.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from thalweg.architecture.linear_start import SeededLinear, draw_seed, pooled_linear
from thalweg.pretraining.blocks import Blocks, blocks_of, checked_blocks
from thalweg.pretraining.stage_data import few_examples, tensors_of, with_tensors
from thalweg.stages import Around, Plan, Stage
from thalweg.tensors.as_trained import eval_mode
from thalweg.tensors.ranges import is_whole

CHUNK = 1024  # examples that pass through frozen blocks at a time


class Heads(nn.Module):
    """A model and the temporary heads of its hidden blocks; it computes what the model does."""

    def __init__(self, model: nn.Module, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.model, self.heads = model, nn.ModuleList(heads)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the model's own output."""
        return self.model(*args, **kwargs)


def greedy(
    model: nn.Module,
    joint: Stage,
    steps: int,
    *,
    blocks: Blocks | None = None,
    last: int | None = 1,
    head: Callable[[Tensor], nn.Module] | None = None,
    cache: int = 2**30,
    generator: Generator | None = None,
) -> Plan:
    """Returns the plan that trains a model block by block, and then as a whole.

    Every block has a stage like ``joint``, with its objective, optimizer and validation, for a model that ends after
    that block in a temporary head. Blocks that are not trained are in eval mode, and what they give is computed once
    where all examples are tensors in memory (:class:`~thalweg.stages.Batches`, or a loader of a ``TensorDataset``).

    Arguments:
        model: an ``nn.Sequential``, cut before each child with parameters, the last of which is the output; or any
            module, with ``blocks``.
        joint: the stage that trains the model as a whole, which comes last; its objective calls the model on a
            batch's inputs, as :func:`~thalweg.stages.supervised` does.
        steps: of each block's stage.
        blocks: names of the hidden blocks in order, or lists of names of consecutive modules; each takes what the one
            before gives.
        last: how many of the last blocks a stage trains: 1, or 2 for the two last ones; None trains all so far.
        head: makes a head from a few of a block's outputs ``(n, …)``; by default a linear layer on the mean over
            positions, or at each place of a sequence where the model's output has as many dimensions.
        cache: bytes that a block's inputs may take over all examples; 0 computes them anew at each step.
        generator: source of the heads' weights, on the CPU; torch's global one by default.

    Returns:
        A :class:`~thalweg.stages.Plan` for a module with ``model`` and ``heads``; the model itself is trained.

    Raises:
        ValueError: blocks that do not exist, follow each other or train; an output for which there is no default
            head.

    >>> from functools import partial
    >>> from thalweg.stages import Batches, supervised
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> data = Batches(torch.randn(60, 4), torch.randint(3, (60,)), batch_size=20)
    >>> joint = Stage(objective=supervised(nn.functional.cross_entropy), data=data,
    ...               optimizer=partial(torch.optim.SGD, lr=0.1), steps=100, name="joint")
    >>> print(greedy(model, joint, steps=50))
    block 0: 50 steps
    block 2: 50 steps
    joint: 100 steps

    Source: Deep Learning, §8.7.4; Bengio et al. 2007.
    """
    if last is not None and not is_whole(last):
        raise ValueError(f"last is {last}: give at least 1 block per stage, or None for all blocks so far")
    inputs = few_examples(joint.data, model)
    named = checked_blocks(model, blocks_of(model)[:-1] if blocks is None else blocks, inputs)
    chain = [nn.Sequential(*(model.get_submodule(name) for name in block)) for block in named]
    with eval_mode(model):
        output, features = model(inputs), [inputs]
        for part in chain:
            features.append(part(features[-1]))
        heads = [(head or _default_head(output, generator))(value) for value in features[1:]]
        for module, value in zip(heads, features[1:], strict=True):
            module.to(value.device)(value)  # lazy layers are made
    whole = Heads(model, heads)
    stages = []
    for k, block in enumerate(named):
        first = 0 if last is None else max(0, k - last + 1)
        trained = [f"model.{name}" for part in named[first : k + 1] for name in part if _trains(model, name)]
        cached = first > 0 and _bytes(features[first], joint.data) <= cache
        still, part = nn.Sequential(*chain[:first]), nn.Sequential(*chain[first : k + 1], heads[k])
        stages.append(
            replace(
                joint,
                name=f"block {next(name for name in block if _trains(model, name))}",
                steps=steps,
                epochs=None,
                objective=_objective(joint, None if cached or not first else still, part),
                data=_given(joint.data, still) if cached else joint.data,
                trainable=[*trained, f"heads.{k}"],
                rates=_within(joint.rates, trained),
                validate=_validate(joint, nn.Sequential(still, part)),
            )
        )
    trainable = None if joint.trainable is None else [f"model.{name}" for name in joint.trainable]
    end = replace(
        joint,
        objective=Around(joint.objective, lambda both, batch, step: joint.objective(both.model, batch, step)),
        trainable=["model"] if trainable is None else trainable,
        rates={f"model.{name}": rate for name, rate in joint.rates.items()},
        validate=_validate(joint, model),
    )
    return Plan(whole, [*stages, end])


def _default_head(output: Any, generator: Generator | None) -> Callable[[Tensor], nn.Module]:
    if not isinstance(output, Tensor) or output.dim() < 2:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"no head is known for a model with outputs {shape}: pass head=, a function of a block's output"
        )

    def made(features: Tensor) -> nn.Module:
        if features.dim() == output.dim() and features.shape[:-1] == output.shape[:-1]:
            return SeededLinear(output.shape[-1], draw_seed(generator)).to(features.dtype)
        return pooled_linear(output.shape[1 if output.dim() == 2 else -1], draw_seed(generator)).to(features.dtype)

    return made


def _objective(joint: Stage, still: nn.Module | None, part: nn.Module) -> Callable[[Any, Any, int], Any]:
    def objective(_: Any, batch: Any, step: int) -> Any:
        inputs, *rest = batch
        if still is not None:
            with eval_mode(still):
                inputs = still(inputs)
        return joint.objective(part, (inputs, *rest), step)

    return Around(joint.objective, objective)


def _validate(joint: Stage, model: nn.Module) -> Callable[[Any], Any] | None:
    validate = joint.validate
    return None if validate is None else lambda _: validate(model)


def _given(data: Any, still: nn.Module) -> Callable[[nn.Module], Any]:
    """Returns the function that passes all examples through the blocks that stand still, when the stage begins."""

    def made(_: nn.Module) -> Any:
        inputs, *rest = tensors_of(data) or ()
        device = next(still.parameters()).device
        with eval_mode(still):
            outputs = torch.cat([still(part.to(device)).to(inputs.device) for part in inputs.split(CHUNK)])
        return with_tensors(data, (outputs, *rest))

    return made


def _bytes(few: Tensor, data: Any) -> float:
    """Returns how many bytes all examples take where few are known; infinitely many where they are not in memory."""
    tensors = tensors_of(data)
    return float("inf") if tensors is None else few[0].numel() * few.element_size() * len(tensors[0])


def _trains(model: nn.Module, name: str) -> bool:
    return any(p.requires_grad for p in model.get_submodule(name).parameters())


def _within(rates: Any, trained: Sequence[str]) -> dict[str, float]:
    """Returns the rates of modules that a stage trains, by their names in the whole."""
    named = {f"model.{name}": rate for name, rate in rates.items()}
    return {n: r for n, r in named.items() if any(n == t or n.startswith(t + ".") for t in trained)}
