"""What ranks agree on: each holds a share of every vector, or a copy, and what decides something is the same for all.

    f = mean of the ranks' losses;   aᵀb = Σ over the shares;   ‖v‖∞ = the largest of the shares'

A sum over all ranks counts each share as often as there are copies of it, and is divided by that number. Results are
equal on all ranks to the last bit, so that all take the same steps.

Source: Chen, Wang & Zhou 2014 (vector-free L-BFGS), from which it differs in that the pairs themselves are kept, each
rank's share of them: as little is sent, and nothing is lost to coefficients of earlier coefficients.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup, all_gather, all_reduce

from thalweg.tensors.vector import from_vector, to_vector


class Ranks:
    """The processes that work on one vector together; by default this one alone, which sends nothing.

    Arguments:
        groups: one process group for each dimension of the mesh that they form.
        copies: how many ranks hold the same share.

    Attributes:
        shares: into how many the vector is divided.

    >>> ALONE.sums(torch.tensor(1.0), torch.tensor(2.0))
    (tensor(1.), tensor(2.))
    """

    def __init__(self, groups: Sequence[ProcessGroup] = (), copies: int = 1) -> None:
        self.groups, self.copies = groups, copies
        self.shares = math.prod(group.size() for group in groups) // copies

    def sums(self, *own: Tensor) -> Sequence[Tensor]:
        """Returns the sums over all shares of what this rank found for its own, of any shapes; one all-reduce."""
        if not self.groups:
            return own
        total = to_vector(own, torch.float64)
        for group in self.groups:
            all_reduce(total, group=group)
        return from_vector(total / self.copies, own)

    def agreed(self, own: Tensor) -> list[float]:
        """Returns two means, two largest values, and sums over the shares, in this order; one gathering.

        Arguments:
            own: this rank's numbers ``(k,)``, k ≥ 4.
        """
        if not self.groups:
            return own.tolist()
        own = own.double()
        for group in self.groups:
            rows = own.new_empty(group.size(), len(own))
            all_gather(list(rows), own, group=group)
            own = torch.cat([rows[:, :2].mean(0), rows[:, 2:4].amax(0), rows[:, 4:].sum(0)])
        own[4:] /= self.copies
        return own.tolist()


ALONE = Ranks()


def ranks_of(params: Sequence[Tensor], group: ProcessGroup | None = None) -> Ranks:
    """Returns the ranks that hold the parameters together: those of the mesh of distributed ones, or of a group.

    Arguments:
        params: all of them distributed tensors, in shards or copies, or none of them.
        group: of ranks that each hold all of plain parameters.

    Raises:
        ValueError: some parameters are distributed otherwise than others.
    """
    if not any(hasattr(p, "device_mesh") for p in params):
        return ALONE if group is None else Ranks([group], group.size())
    if group is not None:
        raise ValueError("sharded parameters (DTensor) bring their own process group: pass none")
    placed: set[tuple[Any, int]] = {(getattr(p, "device_mesh", None), _copies(p)) for p in params}
    if len(placed) > 1:
        raise ValueError("some parameters are sharded differently, or not at all: shard all of them over one mesh")
    mesh, copies = placed.pop()
    return Ranks(mesh.get_all_groups(), copies)


def _copies(param: Any) -> int:
    """Returns how many ranks hold the same shard of a distributed tensor; 0 of a plain one."""
    if not hasattr(param, "device_mesh"):
        return 0
    sizes = zip(param.device_mesh.shape, param.placements, strict=True)
    return math.prod(size for size, placement in sizes if placement.is_replicate())
