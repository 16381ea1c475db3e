"""The examples of a task. What a batch is, is known here and in :mod:`thalweg.training.nested` alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from thalweg.compare.user_errors import TaskError, brief, user_errors
from thalweg.stages import Batches

T = TypeVar("T")
Batch = tuple[Tensor, ...]  # input, target, and what is learned beside the target
CHUNK = 1024  # examples that are evaluated at a time


def input_of(batch: Batch) -> Tensor:
    """Returns what the model takes of a batch."""
    return batch[0]


def target_of(batch: Batch) -> Tensor:
    """Returns what the loss takes of a batch, beside the model's output."""
    return batch[1]


@dataclass(frozen=True, eq=False)
class Split:
    """The examples of one part of a task, in memory.

    Arguments:
        held: all of them as one batch: tensors whose first dimension is the example.

    >>> split = Split((torch.arange(6.0).view(3, 2), torch.tensor([0, 1, 0])))
    >>> [part.shape for part in split.batch(torch.tensor([[0, 2], [1, 1]]))]  # of two lanes
    [torch.Size([2, 2, 2]), torch.Size([2, 2])]
    >>> split.evaluate(torch.nn.Flatten(), lambda output, target: output.sum().item())
    15.0
    """

    held: Batch

    def __len__(self) -> int:
        return len(self.input)

    @property
    def input(self) -> Tensor:
        """The inputs of all examples."""
        return input_of(self.held)

    @property
    def target(self) -> Tensor:
        """The targets of all examples."""
        return target_of(self.held)

    def batch(self, rows: Tensor) -> Batch:
        """Returns the examples at these positions ``(batch,)``, or those of several models ``(lanes, batch)``."""
        return tuple([tensor[rows] for tensor in self.held])

    def first(self, count: int) -> "Split":
        """Returns the first examples, of which there may be fewer."""
        return self.map(lambda tensor: tensor[:count])

    def map(self, function: Callable[[Tensor], Tensor]) -> "Split":
        """Returns the examples with the function of each of their tensors."""
        return Split(tuple(function(tensor) for tensor in self.held))

    def beside(self, values: Tensor) -> "Split":
        """Returns the examples with values ``(n, …)`` that are learned beside the target."""
        return Split((*self.held, values))

    def evaluate(
        self,
        model: Callable[[Tensor], Tensor],
        score: Callable[[Tensor, Tensor], T],
        chunk: int = CHUNK,
        dim: int = 0,
    ) -> T:
        """Returns the score of the model's outputs for all examples, computed in chunks and without gradients.

        Arguments:
            model: gives the outputs of a chunk.
            score: ``(outputs, targets) -> score`` of all examples.
            chunk: examples at a time.
            dim: the outputs' dimension that counts examples; 1 where the model is many, stacked.
        """
        with torch.no_grad():
            return score(torch.cat([model(part) for part in self.input.split(chunk)], dim=dim), self.target)

    def dataset(self) -> TensorDataset:
        """Returns the examples as a dataset."""
        return TensorDataset(*self.held)

    def batches(self, batch_size: int, seed: int) -> Batches:
        """Returns minibatches for the training loop, each epoch in a new order, a last short one left out."""
        return Batches(*self.held, batch_size=min(batch_size, len(self)), seed=seed, drop_last=True)


@dataclass(frozen=True, eq=False)
class Examples:
    """The examples of a task, in three parts."""

    train: Split
    valid: Split
    test: Split

    def targets(self) -> list[tuple[str, Tensor]]:
        """Returns the targets of each part, beside its name in messages."""
        return [("training", self.train.target), ("validation", self.valid.target), ("test", self.test.target)]

    def tensors(self) -> list[Tensor]:
        """Returns all tensors, part by part."""
        return [*self.train.held, *self.valid.held, *self.test.held]

    def map(self, function: Callable[[Tensor], Tensor]) -> "Examples":
        """Returns the examples with the function of each of their tensors."""
        return Examples(self.train.map(function), self.valid.map(function), self.test.map(function))


def first_inputs(dataset: Dataset[Any], count: int) -> Tensor:
    """Returns the inputs of the first examples of a dataset."""
    return torch.stack([torch.as_tensor(dataset[i][0]) for i in range(min(count, len(dataset)))])  # type: ignore[arg-type]


def stacked(dataset: Dataset[Any], part: str, resident: bool = False) -> Split:
    """Returns the examples of a dataset of (input, target) pairs.

    Arguments:
        dataset: of the pairs.
        part: its name in messages.
        resident: whether examples may differ each time that they are read.

    Raises:
        TaskError: they cannot be read or stacked, or are not finite; there are none.
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise TaskError(f"the {part} data has no length: give a map-style dataset (list(iterable) makes one)")
    with user_errors(f"the length of the {part} data"):
        count = len(dataset)
    if count == 0:
        raise TaskError(f"the {part} data is empty: give at least one example")
    if isinstance(dataset, TensorDataset):
        if len(dataset.tensors) != 2:
            raise TaskError(_no_pair(part, len(dataset.tensors)))
        x, y = dataset.tensors
    else:
        with user_errors(f"reading the {part} data"):
            pairs = [dataset[i] for i in range(count)]
        if isinstance(pairs[0], (tuple, list)) and len(pairs[0]) != 2:
            raise TaskError(_no_pair(part, len(pairs[0])))
        if not resident:
            with user_errors(f"reading the {part} data"):
                again = {i: dataset[i] for i in (0, count // 2, count - 1)}
            if not all(_same(pairs[i], pair) for i, pair in again.items()):
                raise TaskError(
                    f"the {part} examples differ each time that they are read, as with random augmentation, and a "
                    "comparison reads them once: augment in the model's forward if model.training, or keep one reading "
                    "with Task(resident=True)"
                )
        try:
            x = torch.stack([torch.as_tensor(pair[0]) for pair in pairs])
            y = torch.stack([torch.as_tensor(pair[1]) for pair in pairs])
        except Exception as error:
            raise TaskError(
                f"the {part} data is not a set of (input, target) pairs of tensors of one shape ({brief(error)}): "
                "convert and pad them in the dataset"
            ) from error
    for what, tensor in (("inputs", x), ("targets", y)):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            rows = (~torch.isfinite(tensor.reshape(count, -1))).any(dim=1).nonzero()[:, 0]
            raise TaskError(
                f"the {part} {what} contain NaN or infinity in {len(rows)} examples (first: {int(rows[0])}): clean them"
            )
    return Split((x, y))


def _no_pair(part: str, count: int) -> str:
    return f"an example of the {part} data has {count} parts: give pairs (input, target), or the others are left out"


def _same(one: Any, two: Any) -> bool:
    """Says whether two readings of an example are equal, as far as they can be compared."""
    if isinstance(one, (tuple, list)) and isinstance(two, (tuple, list)):
        return len(one) == len(two) and all(map(_same, one, two))
    try:
        a, b = torch.as_tensor(one), torch.as_tensor(two)
    except Exception:  # what is no tensor is refused by name when it is stacked
        return True
    return a.shape == b.shape and torch.allclose(a, b, 0, 0, equal_nan=True)
