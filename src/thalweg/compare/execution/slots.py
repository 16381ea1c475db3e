"""Slots of the stacked model: the job in each, and the blocks of neighbouring slots that one rule's kernel steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from thalweg.compare.execution.coefficients import coefficient_names, coefficient_table
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.job import Job
from thalweg.compare.execution.kernel_layout import AVERAGE
from thalweg.compare.execution.kernels import Kernel, shown_slot, slots_of
from thalweg.compare.execution.lane_buffers import LaneBuffers
from thalweg.compare.execution.trial_state import TrialState
from thalweg.compare.storage.result import Curve
from thalweg.compare.task.grouping import Setting
from thalweg.rules.rule import Rule
from thalweg.tensors.places import Places
from thalweg.tensors.private import mark_dynamic

Group = tuple[Rule, tuple[str, ...]]


def group_of(job: Job, settings: tuple[Setting, ...]) -> Group:
    """Returns what jobs must share to be stepped by one kernel."""
    assert job.strategy.rule is not None
    return job.strategy.rule, tuple(coefficient_names(job, settings))


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

    def __init__(self, group: Group, params: Tensor, part: slice, kernel: Kernel, places: Places) -> None:
        self.group, self.params, self.part, self.start, self.kernel = group, params, part, part.start, kernel
        self.slots = slots_of(group[0], AVERAGE in group[1], places)
        self.buffers = [slot.begun(params) for slot in self.slots.values()]
        self.fresh = True

    @property
    def averages(self) -> bool:
        """Whether the block's averages are judged."""
        return AVERAGE in self.slots

    @property
    def shown(self) -> Tensor:
        """The parameters that are judged ``(rows, n)``: their averages where there are such, or what the rule shows."""
        name = shown_slot(self.group[0], self.averages)
        return self.params if name is None else self.buffers[list(self.slots).index(name)]

    def enter(self, job: Job, state: TrialState, slot: int, context: TaskContext) -> Lane:
        """Puts the job's parameters and state, fresh ones or those that it goes on with, into the slot."""
        params, fresh = self.params[slot - self.start], job.snapshot is None
        params.copy_(context.start(job.strategy.initialization, job.seed) if fresh else state.flat(params))
        for (name, held), buffer in zip(self.slots.items(), self.buffers, strict=True):
            buffer[slot - self.start].copy_(state.slot(name, held, params))
        return Lane(job, job.start, job.first_loss)

    def step(self, grads: Tensor, coefficients: Tensor) -> None:
        """Steps every row with its gradient, of those of all slots, and its coefficients ``(rows, c)``."""
        own = grads[self.part]
        if self.fresh and len(own) > 1:  # compiled now, if it was not before: for any number of rows
            for tensor in (self.params, own, *self.buffers, coefficients):
                mark_dynamic(tensor, 0)
        self.fresh = False
        self.kernel(self.params, own, self.buffers, coefficients)

    def table(self, lanes: list[Lane | None], stretch: int, settings: tuple[Setting, ...]) -> Tensor:
        """Returns the coefficients ``(stretch, rows, c)`` of the block's lanes; zeros in empty slots."""
        tables = torch.zeros(stretch, len(self.params), len(self.group[1]), dtype=torch.float64)
        for row, lane in enumerate(lanes[self.start : self.start + len(self.params)]):
            if lane:
                tables[:, row] = coefficient_table(lane.job, lane.t, lane.t + stretch, settings)
        return tables.to(self.params)

    def state(self, slot: int, buffers: LaneBuffers) -> TrialState:
        """Returns the state of the trial in the slot."""
        row = slot - self.start
        held = {name: buffer[row] for name, buffer in zip(self.slots, self.buffers, strict=True)}
        means = buffers.mean if self.averages else {}
        return TrialState(self.params[row], _of(buffers.now, slot), held, _of(means, slot))


def _of(values: Mapping[str, Tensor], slot: int) -> dict[str, Tensor]:
    return {name: value[slot] for name, value in values.items()}


def block_of(blocks: Sequence[Block], slot: int) -> Block:
    """Returns the block that the slot is in."""
    return next(block for block in reversed(blocks) if block.start <= slot)
