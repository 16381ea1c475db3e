"""Features of a model at its layers, in eval mode and without gradients, and the data that they are computed from."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, default_collate

from thalweg.stages import Batches

FEW = 4  # examples by which shapes are found


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Runs its body with the model in eval mode and without gradients, and puts the modes back."""
    modes = [(m, m.training) for m in model.modules() if m.training]
    try:
        for module, _ in modes:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


class _Seen(Exception):
    """All layers that were asked for have run."""


def outputs_at(model: nn.Module, names: Sequence[str], inputs: Any, whole: bool = False) -> tuple[list[Tensor], Any]:
    """Returns what the layers give on the inputs, and the model's own output where it is run as a whole.

    Arguments:
        names: of modules, each of which runs.
        whole: False stops the model once all layers have run; the output is then None.

    Raises:
        ValueError: a layer that does not run, or gives no tensor.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> (hidden,), output = outputs_at(model, ["1"], torch.ones(5, 2))
    >>> tuple(hidden.shape), output
    ((5, 3), None)
    """
    found: dict[str, Any] = {}

    def hook(name: str) -> Any:
        def seen(_: nn.Module, __: Any, output: Any) -> None:
            found[name] = output
            if not whole and len(found) == len(set(names)):
                raise _Seen

        return seen

    handles = [model.get_submodule(name).register_forward_hook(hook(name)) for name in dict.fromkeys(names)]
    output = None
    try:
        output = model(inputs)
    except _Seen:
        pass
    finally:
        for handle in handles:
            handle.remove()
    for name in names:
        if not isinstance(found.get(name), Tensor):
            what = f"gives a {type(found[name]).__name__}" if name in found else "did not run"
            raise ValueError(f"layer {name!r} {what}: name one that runs and gives one tensor")
    return [found[name] for name in names], output


def check_layer(model: nn.Module, name: str, whose: str) -> None:
    """Raises ValueError unless the model has a layer of that name."""
    layers = {layer for layer, _ in model.named_modules(remove_duplicate=False)} - {""}
    if name not in layers:
        some = ", ".join(sorted(layers)[:8]) + (" …" if len(layers) > 8 else "")
        raise ValueError(f"{whose} has no layer {name!r}: choose among {some}")


def tensors_of(data: Any) -> tuple[Tensor, ...] | None:
    """Returns all examples of data that are tensors in memory, else None: a loader may change what it reads."""
    if isinstance(data, Batches):
        return data.tensors
    if isinstance(data, DataLoader) and type(data.dataset) is TensorDataset and data.batch_sampler is not None:
        return data.dataset.tensors if data.collate_fn is default_collate else None
    return None


def with_tensors(data: Any, tensors: Sequence[Tensor]) -> Any:
    """Returns a loader like the data, :func:`tensors_of` which are known, of these tensors: the same rows in order."""
    if isinstance(data, Batches):
        return Batches(
            *tensors, batch_size=data.batch_size, seed=data.seed, shuffle=data.shuffle, drop_last=data.drop_last
        )
    return DataLoader(TensorDataset(*tensors), batch_sampler=data.batch_sampler, generator=data.generator)


def few_examples(data: Any, model: nn.Module) -> Any:
    """Returns a few inputs of the data, on the model's device.

    Raises:
        ValueError: data that are made when the stage begins, or hold no pairs.
    """
    tensors = tensors_of(data)
    if tensors is None:
        if callable(data):
            raise ValueError("the stage's data are a function: pass a loader, from which shapes can be found")
        with torch.random.fork_rng():
            batch = next(iter(data), None)
        tensors = tuple(batch) if isinstance(batch, (tuple, list)) else ()
    if len(tensors) != 2:
        raise ValueError("the stage's data give no pairs (inputs, target): pass a loader of such")
    inputs = tensors[0]
    return inputs[:FEW].to(next(model.parameters()).device) if isinstance(inputs, Tensor) else inputs
