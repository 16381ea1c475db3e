"""From arrays to the three parts of a task, always the same ones."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import TensorDataset


class Parts(NamedTuple):
    """The three parts of a task's data."""

    train: TensorDataset
    valid: TensorDataset
    test: TensorDataset


def split(x: Any, y: Any, train: int, valid: int) -> Parts:
    """Returns ``train``, ``valid`` and ``test`` datasets of a fixed random split; what is left is for the test.

    Inputs become float32; integer targets stay integers, others become float32.
    """
    order = np.random.default_rng(8).permutation(len(x))
    inputs = torch.as_tensor(np.asarray(x, dtype=np.float32)[order])
    targets = torch.as_tensor(np.asarray(y)[order])
    targets = targets.float() if targets.is_floating_point() else targets.long()
    rows = (slice(train), slice(train, train + valid), slice(train + valid, None))
    return Parts(*(TensorDataset(inputs[part].contiguous(), targets[part].contiguous()) for part in rows))


def standardized(values: Any, count: int) -> Any:
    """Returns the columns with the mean 0 and the standard deviation 1 that they have in the training part."""
    order = np.random.default_rng(8).permutation(len(values))
    seen = values[order[:count]]
    return (values - seen.mean(axis=0)) / seen.std(axis=0)
