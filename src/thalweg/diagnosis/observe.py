"""One forward and one backward pass, watched: every layer's output, what follows it, and the gradients."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from thalweg.diagnosis.batches import Batch, as_batch, examples_in
from thalweg.diagnosis.forward_recorder import ForwardRecorder, Layer
from thalweg.tensors.as_trained import as_trained
from thalweg.tensors.private import tree_flatten, tree_unflatten

if TYPE_CHECKING:
    from thalweg.diagnosis.overflows import Overflow

Loss = Callable[[Any, Any], Tensor]
FEWEST = 8  # examples by which a unit is judged
A_STEP = 5


@dataclass
class Seen:
    """A model on a batch at the start.

    Attributes:
        model: the module itself.
        layers: dense, convolution, recurrent and attention layers in the order in which they ran.
        norms: normalization layers likewise.
        inputs: of the model.
        output, target: of the model, and what the loss compares it with.
        loss: its value.
        function: the loss itself.
        order: names of both as they ran.
        gradients: of the loss by each trainable parameter, None for one that it does not use.
        scores: the one tensor of the output that the loss depends on, without its graph; None where there are several.
        loss_at: the loss as a function of ``scores``, and of the target.
        end: the function that ``scores`` is the value of, such as ``"softmax"``; empty where it is none that is known.
        through_time: of each recurrent layer the gradients' norms over its steps ``(T,)``.
        unused: places of the tensors among the inputs that come to no function.
        leaves: tensors of the output's graph that gradients come to, and that are none of the model's parameters.
        types: of the tensors that the functions of the forward pass gave.
        operations: in the output's graph, of which a recurrent layer, one to torch, has 5 a step.
    """

    model: nn.Module
    layers: dict[str, Layer]
    norms: dict[str, Layer]
    order: list[str]
    inputs: tuple[Any, ...]
    output: Any
    target: Any
    loss: float
    function: Loss
    gradients: dict[str, Tensor | None]
    scores: Tensor | None
    loss_at: Callable[[Tensor, Any], Tensor]
    end: str
    through_time: dict[str, Tensor]
    unused: set[int]
    leaves: list[Tensor]
    types: set[torch.dtype]
    operations: int

    @cached_property
    def calm(self) -> tuple[Any, dict[str, Tensor]]:
        """The model's output in evaluation mode, and each layer's."""
        from thalweg.diagnosis.passes import evaluated

        return evaluated(self)

    @cached_property
    def overflows(self) -> "list[Overflow]":
        """What overflows in a half-precision type in the forward pass and the loss."""
        from thalweg.diagnosis.overflows import overflows

        return overflows(self)

    def every(self, name: str) -> Layer:
        """Returns a layer, or a normalization, by its name."""
        return self.layers.get(name) or self.norms[name]

    @property
    def examples(self) -> int:
        """How many are in the batch."""
        return examples_in(self.batch)

    @property
    def batch(self) -> Batch:
        """Inputs and target."""
        return self.inputs, self.target


def observe(model: nn.Module, batch: Any, loss: Loss) -> Seen:
    """Returns what a model shows on one batch as it would be trained, with dropout off; nothing is changed.

    Arguments:
        model: any module.
        batch: ``(inputs, target)``; several inputs are a tuple.
        loss: ``(output, target) -> scalar``.

    Raises:
        ValueError: the batch fits the model or the loss not; the loss is no scalar, or hangs on no parameter.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    >>> seen = observe(net, (torch.randn(8, 3), torch.randn(8, 1)), nn.functional.mse_loss)
    >>> list(seen.layers), list(seen.layers["0"].activations), seen.layers["0"].feeds
    (['0', '2'], ['relu'], {'2'})
    """
    inputs, target = as_batch(batch)
    lazy = next((name for name, p in model.named_parameters() if is_lazy(p)), None)
    if lazy is not None:
        raise ValueError(f"{lazy} has no shape yet: run a batch through the model first")
    recorder = ForwardRecorder(model)
    with as_trained(model):
        try:
            with recorder:
                output = model(*inputs)
                shown = tree_flatten(output)[0]
        except Exception as error:
            raise ValueError(f"the batch does not fit the model ({brief(error)}): pass a batch that fits") from error
        value = loss_value(loss, output, target)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        leaves, operations = _leaves(
            output, {id(t) for t in (*model.parameters(), *recorder.kept, *tree_flatten(inputs)[0])}
        )
        if trained and not value.requires_grad:
            raise ValueError("the loss does not depend on the parameters: do not detach or round on the way to it")
        parts, shape = tree_flatten(output)
        ends = [i for i, t in enumerate(parts) if isinstance(t, Tensor) and t.is_floating_point() and t.requires_grad]
        kept = {name: t for name, t in recorder.graph.items() if t.requires_grad}
        read = {name: t for name, t in recorder.read.items() if t.requires_grad}
        steps = {name: [t for t in given if t.requires_grad] for name, given in recorder.through.items()}
        asked = [*trained.values(), *kept.values(), *read.values(), *(t for given in steps.values() for t in given)]
        asked += [parts[i] for i in ends]
        found: list[Tensor | None] = [None] * len(asked)
        if value.requires_grad:
            try:
                found = list(torch.autograd.grad(value, asked, allow_unused=True))
            except RuntimeError as error:
                raise ValueError(
                    f"the loss cannot be differentiated ({brief(error)}): do not change tensors in place that the "
                    "gradient needs"
                ) from error
    every = recorder.layers | recorder.norms
    rest = iter(found)
    gradients = {name: next(rest) for name in trained}
    for name in kept:
        every[name].gradient = next(rest)
    for name in read:
        every[name].handed_on = next(rest)
    times = {name: [next(rest) for _ in given] for name, given in steps.items()}
    used = [i for i in ends if next(rest) is not None]
    parts = [detached(part) for part in parts]
    at = used[0] if len(used) == 1 else None

    def loss_at(scores: Tensor, target: Any) -> Tensor:
        return loss(tree_unflatten([scores if i == at else part for i, part in enumerate(parts)], shape), target)

    through_time = {name: _by_step(model.get_submodule(name), grads) for name, grads in times.items()}
    operations += sum(A_STEP * len(norms) for norms in through_time.values())
    return Seen(
        model,
        recorder.layers,
        recorder.norms,
        list(recorder.graph),
        inputs,
        detached(output),
        target,
        value.item(),
        loss,
        gradients,
        None if at is None else parts[at],
        loss_at,
        "" if at is None else recorder.ends.get(id(shown[at]), ""),
        through_time,
        {i for i, x in enumerate(inputs) if isinstance(x, Tensor) and id(x) not in recorder.uses},
        leaves,
        recorder.types,
        operations,
    )


def _by_step(module: Any, gradients: list[Tensor | None]) -> Tensor:
    """Returns the norm of the gradient at each step of a recurrent layer: of what it reads, or of its cell's states."""
    if isinstance(module, nn.RNNBase) and gradients and gradients[0] is not None:
        whole = gradients[0].double()
        time = 1 if module.batch_first and whole.dim() == 3 else 0
        return whole.movedim(time, 0).flatten(1).norm(dim=1)
    return torch.tensor([0.0 if g is None else float(g.double().norm()) for g in gradients], dtype=torch.float64)


def _leaves(output: Any, known: set[int]) -> tuple[list[Tensor], int]:
    """Returns the tensors that require a gradient at the ends of the output's graph, without those known; its size."""
    waiting = [t.grad_fn for t in tree_flatten(output)[0] if isinstance(t, Tensor) and t.grad_fn is not None]
    found: dict[int, Tensor] = {}
    met = set(waiting)
    while waiting:
        node = waiting.pop()
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in known:
            found[id(leaf)] = leaf
        fresh = [parent for parent, _ in node.next_functions if parent is not None and parent not in met]
        met.update(fresh)
        waiting += fresh
    return list(found.values()), len(met)


def loss_value(loss: Loss, output: Any, target: Any) -> Tensor:
    """Returns the loss, checked to be a scalar.

    Raises:
        ValueError: it raises, or is no scalar.
    """
    try:
        value = loss(output, target)
    except Exception as error:
        raise ValueError(f"the loss raises on the model's output ({brief(error)}): pass a target that fits") from error
    if not isinstance(value, Tensor) or value.numel() != 1:
        what = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"the loss is not a scalar tensor ({what}): return the mean over the batch")
    return value.reshape(())


def deviation(values: Tensor, examples: int) -> float:
    """Returns the standard deviation between examples, the root of its mean square over the places of one.

    The examples are the first dimension, or the second where that alone has their number; else all but the last.
    """
    values = values.detach().float()
    if values.dim() < 2:
        values = values.reshape(-1, 1)
    if values.shape[0] != examples:
        values = values.transpose(0, 1) if values.shape[1] == examples else values.flatten(0, -2)
    return float(values.var(0, correction=0).mean()) ** 0.5


def by_unit(layer: Layer, values: Tensor) -> Tensor:
    """Returns ``(cases, units)``; positions are cases, and what was reshaped counts each place as a unit."""
    if values.dim() == layer.output.dim():
        return values.movedim(layer.unit_dim, -1).flatten(0, -2)
    return values.flatten(1)


def brief(error: Exception) -> str:
    """Returns an error's kind and its first line."""
    line = next((line for line in str(error).splitlines() if line.strip()), "no message")
    return f"{type(error).__name__}: {line[:200]}"


def detached(value: Any) -> Any:
    """Returns a tensor without its graph, anything else as it is."""
    return value.detach() if isinstance(value, Tensor) else value
