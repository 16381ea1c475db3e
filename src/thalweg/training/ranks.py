"""The ranks that train one model together: each takes its rows of every batch, and what decides anything is agreed on.

    J = (1/n) Σ_i L_i = (1/W) Σ_r (W n_r / n) J_r,    J_r the mean over the n_r rows of rank r

Each rank's loss is weighted by W n_r / n before its gradient is taken, so that the mean of the ranks' gradients, which
DistributedDataParallel and FSDP2 form, is the gradient of the whole batch's mean, however unequal the shares are.

The objective as a whole stands in DistributedDataParallel's forward, so that it may call any part of the model. With
``find_unused_parameters`` parts may stand out of a step; its buckets are then never formed anew, so that a run that
goes on adds in the order in which it would have.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.distributed import ProcessGroup

from thalweg.normalization import BatchNorm
from thalweg.tensors.private import BatchNormBase
from thalweg.training.sharded_state import is_sharded


def mapped(batch: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Returns the batch with the function of each of its tensors; whatever else it holds stays as it is.

    >>> import torch
    >>> mapped({"x": torch.ones(2), "names": ("a", "b")}, torch.Tensor.sum)
    {'x': tensor(2.), 'names': ('a', 'b')}
    """
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {key: mapped(value, function) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(mapped(value, function) for value in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(mapped(value, function) for value in batch)
    return batch


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """Yields the batch's tensors.

    >>> import torch
    >>> [tuple(t.shape) for t in tensors_of([torch.ones(2), {"y": torch.ones(2, 3)}])]
    [(2,), (2, 3)]
    """
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, (Mapping, tuple, list)):
        for value in batch.values() if isinstance(batch, Mapping) else batch:
            yield from tensors_of(value)


class Part(NamedTuple):
    """A rank's rows of a batch, and what their mean loss counts: W n_r / n."""

    batch: Any
    weight: float


class Ranks:
    """Those of a process group; this process alone, which sends nothing, where there is none or it is the only one.

    Arguments:
        group: of ranks that all train.
        device: where the model is; messages are sent from there.

    >>> Ranks(None, torch.device("cpu")).parts([torch.ones(3)], divided=False)
    [Part(batch=tensor([1., 1., 1.]), weight=1.0)]
    """

    def __init__(self, group: ProcessGroup | None, device: torch.device) -> None:
        self.group = group if group is not None and group.size() > 1 else None
        self.size, self.rank = (1, 0) if self.group is None else (self.group.size(), self.group.rank())
        self.device = device

    @property
    def first(self) -> bool:
        """Whether this rank writes."""
        return self.rank == 0

    def parts(self, batches: Sequence[Any], divided: bool) -> list[Part]:
        """Returns this rank's rows of the batches.

        Arguments:
            batches: the same on all ranks; or, where they are ``divided``, each rank's own.

        Raises:
            ValueError: a batch whose tensors have not all as many rows.
        """
        if self.size == 1:
            return [Part(batch, 1.0) for batch in batches]
        counts = [_rows(batch) for batch in batches]
        if divided:
            totals = [self.size * mean for mean in self.mean(torch.tensor(counts, dtype=torch.float64)).tolist()]
            return [Part(b, _weight(n, total, self.size)) for b, n, total in zip(batches, counts, totals, strict=True)]
        found = []
        for batch, count in zip(batches, counts, strict=True):
            # Each has ⌊n/W⌋ rows, and as many of the first ranks one more as are left.
            begin, end = (r * (count // self.size) + min(r, count % self.size) for r in (self.rank, self.rank + 1))
            own = mapped(batch, lambda t, begin=begin, end=end: t[begin:end])  # type: ignore[misc]
            found.append(Part(own, _weight(end - begin, count, self.size)))
        return found

    def joined(self, model: nn.Module, objective: Callable[[Any, Any, int], Any]) -> Callable[[Any, int], Any]:
        """Returns the objective of ``(batch, step)``, whose gradients become the mean of all ranks'."""
        if self.size > 1 and not is_sharded(model):
            with warnings.catch_warnings():  # of a new name for broadcast_buffers, which older versions do not know
                warnings.simplefilter("ignore", FutureWarning)
                return nn.parallel.DistributedDataParallel(
                    _Objective(model, objective),
                    process_group=self.group,
                    broadcast_buffers=False,
                    find_unused_parameters=True,
                )
        return lambda batch, step: objective(model, batch, step)

    def mean(self, own: Tensor) -> Tensor:
        """Returns the mean over the ranks of numbers ``(k,)`` or a scalar, the same to the last bit on all of them."""
        if self.size == 1 or not own.numel():
            return own
        total = own.to(self.device, torch.float64)
        total = total.clone() if total is own else total
        distributed.all_reduce(total, group=self.group)
        return (total / self.size).to(own)

    def least(self, own: int) -> int:
        """Returns the smallest of the ranks' whole numbers."""
        if self.size == 1:
            return own
        found = torch.tensor(own, device=self.device)
        distributed.all_reduce(found, distributed.ReduceOp.MIN, group=self.group)
        return int(found)

    def check(self, model: nn.Module, objective: Any) -> None:
        """Raises ValueError where ranks would drift apart: batch norms of a share alone, objectives that keep state."""
        if self.size == 1:
            return
        for name, module in model.named_modules():
            own = isinstance(module, BatchNormBase) and module.training
            if own and not isinstance(module, nn.SyncBatchNorm) and not getattr(module, "synchronize", False):
                remedy = "call convert_batch_norm(model, synchronize=True)"
                if isinstance(module, BatchNorm):
                    remedy = f"set synchronize=True and no ghost on {name!r}"
                raise ValueError(
                    f"batch norm {name!r} would normalize each rank's share of a batch separately: {remedy}"
                )
        if hasattr(objective, "state_dict"):
            raise ValueError(
                "the objective keeps state, which would differ from rank to rank: use one process, or an objective "
                "without state"
            )


class _Objective(nn.Module):
    """An objective as a module's forward."""

    def __init__(self, model: nn.Module, objective: Callable[[Any, Any, int], Any]) -> None:
        super().__init__()
        self.model, self._held = model, (objective,)  # in a tuple: one that is a module is none of ours
        self.spare = nn.Parameter(next(model.parameters()).new_zeros(1))  # without an unused one the wrapper warns

    def forward(self, batch: Any, step: int) -> Any:
        """Returns what the objective gives."""
        return self._held[0](self.model, batch, step)


def weighted(loss: Tensor, weight: float) -> Tensor:
    """Returns the loss times its weight; zero without rows, where a mean is NaN.

    >>> weighted(torch.tensor(float("nan")), 0.0), weighted(torch.tensor(3.0), 0.5)
    (tensor(0.), tensor(1.5000))
    """
    return loss if weight == 1 else loss * weight if weight else torch.nan_to_num(loss, 0.0) * 0


def _weight(own: int, total: float, size: int) -> float:
    return size * own / total if total else 1.0


def _rows(batch: Any) -> int:
    sizes = {len(t) if t.dim() else 0 for t in tensors_of(batch)}
    if len(sizes) != 1:
        raise ValueError(
            f"a batch holds tensors of {sorted(sizes)} rows and cannot be divided among ranks: give all of them one "
            "row per example, or use a sampler with num_replicas and rank"
        )
    return sizes.pop()
