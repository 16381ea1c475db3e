"""Slots of the stacked model: the job in each, and the blocks of neighbouring slots that one rule's kernel steps."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from thalweg.compare.execution.coefficients import coefficient_names, coefficient_table
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.job import Job
from thalweg.compare.execution.kernels import AVERAGE, Kernel
from thalweg.compare.storage.result import Curve
from thalweg.rules.rule import Rule
from thalweg.tensors.form import taken
from thalweg.tensors.private import mark_dynamic

Group = tuple[Rule, tuple[str, ...]]


def group_of(job: Job) -> Group:
    """Returns what jobs must share to be stepped by one kernel."""
    assert job.strategy.rule is not None
    return job.strategy.rule, tuple(coefficient_names(job))


@dataclass
class Lane:
    """A job in a slot: how far it is and what is summed since its last point."""

    job: Job
    t: int
    first: float | None
    curve: Curve = field(default_factory=Curve)
    sum: float = 0.0
    since: int = 0


class Block:
    """Neighbouring slots of one rule: their rows of the parameters, their state and their kernel."""

    def __init__(self, group: Group, params: Tensor, part: slice, kernel: Kernel) -> None:
        self.group, self.params, self.part, self.start, self.kernel = group, params, part, part.start, kernel
        self.slots: dict[str, float] = {**group[0].buffers, **({AVERAGE: 0.0} if AVERAGE in group[1] else {})}
        self.buffers = [torch.full_like(params, initial) for initial in self.slots.values()]
        self.fresh = True

    @property
    def averages(self) -> bool:
        """Whether the block's averages are judged."""
        return AVERAGE in self.slots

    @property
    def shown(self) -> Tensor:
        """The parameters that are judged ``(rows, n)``: their averages, where there are such."""
        return self.buffers[-1] if self.averages else self.params

    def enter(self, job: Job, slot: int, context: TaskContext) -> Lane:
        """Puts the job's parameters and state, fresh ones or its snapshot's, into the slot."""
        row, snapshot = slot - self.start, job.snapshot
        start = (
            context.start(job.strategy.initialization, job.seed)
            if snapshot is None
            else taken(snapshot, "params", self.params[row])
        )
        self.params[row].copy_(start)
        for (name, initial), buffer in zip(self.slots.items(), self.buffers, strict=True):
            if snapshot is not None and name in snapshot:
                buffer[row].copy_(taken(snapshot, name, buffer[row]))
            elif name == AVERAGE:
                buffer[row].copy_(start)
            else:
                buffer[row].fill_(initial)
        return Lane(job, job.start, job.first_loss)

    def step(self, grads: Tensor, coefficients: Tensor) -> None:
        """Steps every row with its gradient, of those of all slots, and its coefficients ``(rows, c)``."""
        own = grads[self.part]
        if self.fresh and len(own) > 1:  # compiled now, if it was not before: for any number of rows
            for tensor in (self.params, own, *self.buffers, coefficients):
                mark_dynamic(tensor, 0)
        self.fresh = False
        self.kernel(self.params, own, self.buffers, coefficients)

    def table(self, lanes: list[Lane | None], stretch: int) -> Tensor:
        """Returns the coefficients ``(stretch, rows, c)`` of the block's lanes; zeros in empty slots."""
        tables = torch.zeros(stretch, len(self.params), len(self.group[1]), dtype=torch.float64)
        for row, lane in enumerate(lanes[self.start : self.start + len(self.params)]):
            if lane:
                tables[:, row] = coefficient_table(lane.job, lane.t, lane.t + stretch)
        return tables.to(self.params)

    def snapshot(self, slot: int) -> dict[str, Tensor]:
        """Returns what the rest of the run of the job in the slot depends on."""
        row = slot - self.start
        state = {name: buffer[row].cpu().clone() for name, buffer in zip(self.slots, self.buffers, strict=True)}
        return {"params": self.params[row].cpu().clone(), **state}


def block_of(blocks: Sequence[Block], slot: int) -> Block:
    """Returns the block that the slot is in."""
    return next(block for block in reversed(blocks) if block.start <= slot)
