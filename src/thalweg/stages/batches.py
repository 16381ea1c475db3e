"""Batches of tensors in memory: gathered in one piece, in an order that depends on the seed and the epoch alone."""

from collections.abc import Iterator

import torch
from torch import Tensor

from thalweg.tensors.seeds import generator


class Batches:
    """Minibatches of tensors, each epoch in a new order; whatever was drawn before.

    Arguments:
        tensors: of one first size, that of the examples; a batch is a tuple of as many.
        batch_size: examples a batch; at the end of an epoch those that are left.
        seed: of the orders.
        shuffle: False keeps the examples' own order.
        drop_last: leave a smaller last batch out.

    Raises:
        ValueError: tensors of several first sizes or none; a batch size out of range.

    >>> batches = Batches(torch.arange(5), batch_size=2, shuffle=False)
    >>> [x.tolist() for (x,) in batches]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self, *tensors: Tensor, batch_size: int, seed: int = 0, shuffle: bool = True, drop_last: bool = False
    ) -> None:
        sizes = {len(t) for t in tensors}
        if len(sizes) != 1:
            raise ValueError(
                f"the tensors have {sorted(sizes)} examples: pass at least one tensor, and the same number of "
                "examples in all"
            )
        (self.count,) = sizes
        least = self.count if drop_last else 1
        if not isinstance(batch_size, int) or batch_size < 1 or (drop_last and batch_size > least):
            raise ValueError(f"batch_size is {batch_size} for {self.count} examples: give 1 to {max(self.count, 1)}")
        self.tensors, self.batch_size, self.seed, self.shuffle = tensors, batch_size, seed, shuffle
        self.drop_last, self.epoch = drop_last, 0

    def __len__(self) -> int:
        return self.count // self.batch_size if self.drop_last else -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        order = self._order(self.epoch)
        self.epoch += 1
        for rows in order.split(self.batch_size)[: len(self)]:
            yield tuple(t[rows] for t in self.tensors)

    def set_epoch(self, epoch: int) -> None:
        """Makes the next iteration that of the epoch, counted from 0; each iteration goes on to the next by itself."""
        self.epoch = epoch

    def _order(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(self.count, device=self.tensors[0].device)
        order = torch.randperm(self.count, generator=generator(self.seed, "order", epoch))
        return order.to(self.tensors[0].device)
