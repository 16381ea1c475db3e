"""The table of addresses that a kernel reads: made once, and anew only when an address changes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Table:
    """Where the tensors of a step lie, how long they are, and how they are cut into chunks.

    Arguments:
        fixed: for each tensor the addresses of what stays from step to step, as many for all.
        sizes: elements of each.
        device: where they are.
        block: elements in a chunk.

    Attributes:
        fixed: ``(rows, tensors)`` addresses.
        sizes: ``(tensors,)``.
        counters, counter: zeros, one a tensor and one more, at which the programs of a kernel count.
        partials, norm: what the norm's programs have found, and the norm.
        norms: what launches the norm's kernel, by the type of the gradients and whether all is aligned.

    >>> table = Table([[0], [0]], [5, 3], torch.device("cpu"), 4)
    >>> [part.tolist() for part in table.chunks((0, 1))], table.gradients([64, 128])[0].tolist()
    ([[0, 0, 1], [0, 1, 0]], [64, 128])
    """

    def __init__(self, fixed: Sequence[Sequence[int]], sizes: Sequence[int], device: torch.device, block: int) -> None:
        self.known = (fixed, sizes)
        self._block, self._device = block, device
        self.fixed = self._there(torch.tensor(fixed, dtype=torch.int64).T.contiguous())
        self.sizes = self._there(torch.tensor(sizes, dtype=torch.int64))
        self.counters = torch.zeros(len(sizes), dtype=torch.int32, device=device)
        self.counter = torch.zeros(1, dtype=torch.int32, device=device)
        self.partials = torch.empty(1024, dtype=torch.float64, device=device)
        self.norm = torch.empty((), dtype=torch.float64, device=device)
        self.norms: dict[Any, Any] = {}
        self._aligned = all(address % 16 == 0 for row in fixed for address in row)
        self._chunks: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._grads = torch.empty(len(sizes), dtype=torch.int64, device=device)
        self._grads_at: Sequence[int] = ()
        self._grads_aligned = True
        self.spare: Tensor | None = (
            None  # pinned memory for a graph's gradients, which cannot be had while one is captured
        )
        self.captured: list[Tensor] = []  # what a CUDA graph reads whenever it is replayed

    def chunks(self, members: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Returns for each chunk of these tensors the tensor's number, and the chunk's own within it.

        A tensor without elements has one chunk, so that it is counted.
        """
        if members not in self._chunks:
            counts = torch.tensor([max(1, -(-self.known[1][i] // self._block)) for i in members])
            owners = torch.repeat_interleave(torch.tensor(members), counts)
            starts = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
            numbers = torch.arange(len(owners)) - starts
            self._chunks[members] = self._there(owners.to(torch.int32)), self._there(numbers.to(torch.int32))
        return self._chunks[members]

    def gradients(self, addresses: Sequence[int]) -> tuple[Tensor, bool]:
        """Returns the table of gradients, and whether everything begins at multiples of 16 bytes."""
        if addresses != self._grads_at:
            self._grads.copy_(self._pinned(torch.tensor(addresses, dtype=torch.int64)), non_blocking=True)
            self._grads_at, self._grads_aligned = addresses, _aligned(addresses)
        if self.spare is None and self._device.type == "cuda":
            self.spare = torch.empty(len(addresses), dtype=torch.int64, pin_memory=True)
        return self._grads, self._aligned and self._grads_aligned

    def for_capture(self, addresses: Sequence[int]) -> tuple[Tensor, bool]:
        """Returns the same of a table of a CUDA graph's own, whose gradients lie elsewhere than other steps'."""
        assert self.spare is not None
        held, self.spare = self.spare, None
        held.copy_(torch.tensor(addresses, dtype=torch.int64))
        grads = torch.empty_like(self._grads).copy_(held, non_blocking=True)
        self.captured += [held, grads]
        return grads, self._aligned and _aligned(addresses)

    def _there(self, values: Tensor) -> Tensor:
        return self._pinned(values).to(self._device, non_blocking=True)

    def _pinned(self, values: Tensor) -> Tensor:
        return values.pin_memory() if self._device.type == "cuda" else values


def _aligned(addresses: Sequence[int]) -> bool:
    return all(address % 16 == 0 for address in addresses)
