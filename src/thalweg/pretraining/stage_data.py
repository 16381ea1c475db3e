"""The examples of a stage's data: all of them where they are in memory, a few elsewhere."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, default_collate

from thalweg.stages import Batches

FEW = 4  # examples by which shapes are found


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
            raise ValueError("the stage's data are a function: pass a loader, so that shapes can be determined")
        with torch.random.fork_rng():
            batch = next(iter(data), None)
        tensors = tuple(batch) if isinstance(batch, (tuple, list)) else ()
    if len(tensors) != 2:
        raise ValueError("the stage's data give no pairs (inputs, target): pass a loader of pairs")
    inputs = tensors[0]
    return inputs[:FEW].to(next(model.parameters()).device) if isinstance(inputs, Tensor) else inputs
