"""All trials that share model and shapes at once: lanes of one stacked model.

The gradient of a fixed number of slots is compiled once a task; the update kernels are one a rule. Jobs move
in and out of slots, each with its own step count; a diverged job's slot goes to the next waiting job of its
rule. A lane never sees another lane's numbers.
"""

import warnings
from collections import deque
from collections.abc import Sequence
from copy import deepcopy
from itertools import groupby

import torch
from torch import Tensor

from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.divergence import first_divergence
from thalweg.compare.execution.guidance import after_pretraining, guidance_of
from thalweg.compare.execution.job import (
    Job,
    Progress,
    ResultCallback,
    diverged_before_start,
    ignore_results,
)
from thalweg.compare.execution.kernels import Kernel, update_kernel
from thalweg.compare.execution.lane_buffers import LaneBuffers, rows
from thalweg.compare.execution.lane_gradient import Gradient, gradient_kernel
from thalweg.compare.execution.lane_scores import Scores
from thalweg.compare.execution.serial import Serial
from thalweg.compare.execution.shortage import TookTooLong, out_of_memory, within
from thalweg.compare.execution.slots import Block, Group, Lane, block_of, group_of
from thalweg.compare.execution.stackable import Unstackable, unlike_reason, unstackable_reason
from thalweg.compare.execution.stacked_form import stacked_form
from thalweg.compare.execution.timing import with_threads
from thalweg.compare.execution.trial_state import TrialState
from thalweg.compare.storage.result import TrialResult
from thalweg.tensors import derive_seed
from thalweg.tensors.draws import seed_torch
from thalweg.tensors.error_texts import reads_values


class Lanes:
    """Trains up to ``width`` jobs at a time on stacked parameters."""

    name = "lanes"

    def __init__(self, context: TaskContext, width: int, compile_: bool = True) -> None:
        model = stacked_form(deepcopy(context.model))  # which can be stacked, with the same values
        reason = unstackable_reason(model)
        if context.task.precision == "fp16":
            reason = "a float16 run scales its loss by its own gradients"
        if reason:
            raise Unstackable(reason)
        self.threads = 0  # torch's number of them
        self.context, self.compile = context, compile_
        self.training = model.train()
        self._widen(width)

    def _widen(self, width: int) -> None:
        """Makes so many slots, and the kernels for them."""
        self.width = width
        self.buffers = LaneBuffers(self.training, width)
        self.gradient = self._gradient_kernel()
        self._kernels: dict[tuple[Group, bool], Kernel] = {}
        self.scores = Scores(self.context, self.buffers.fresh, self.compile)

    def narrow(self) -> None:
        """Makes half as many slots, with a warning, where memory has run out."""
        narrower = self.width // 2
        warnings.warn(f"memory ran out with {self.width} lanes: continuing with {narrower}", stacklevel=2)
        self._widen(narrower)

    def _enter(self, block: Block, job: Job, slot: int) -> Lane:
        state = TrialState.decode(job.snapshot)
        self.buffers.enter(slot, state)
        return block.enter(job, state, slot, self.context)

    def _gradient_kernel(self) -> Gradient:
        return gradient_kernel(self.context, self.training, self.buffers.fresh, self.compile)

    def probe(self) -> None:
        """Tries two lanes uncompiled for one step.

        Raises:
            Unstackable: the model has an operation that cannot be stacked; the message names it.
        """
        context = self.context
        eager = Lanes(context, 2, compile_=False) if self.compile else self
        try:
            flat = context.start("default", 0).expand(2, -1).contiguous()
            with torch.no_grad(), warnings.catch_warnings(action="ignore"):
                eager.gradient(flat, rows(eager.buffers.now, [0, 1]), context.batches(0, 0, 2))
            eager.scores.try_one(flat[:1], rows(eager.buffers.now, [0]))
        except Exception as error:
            if reads_values(error):
                raise Unstackable("it reads the value of a tensor, as .item() and if do") from error
            line = (str(error).splitlines() or [""])[0][:160]
            raise Unstackable(f"torch cannot stack it ({type(error).__name__}: {line})") from error
        if reason := unlike_reason(context, eager.buffers.fresh):
            raise Unstackable(reason)

    def run(
        self, jobs: Sequence[Job], progress: Progress, on_results: ResultCallback = ignore_results
    ) -> list[TrialResult]:
        """Trains every job to its end; those that share the slots, one after another too, are kept together.

        Where memory runs out, the jobs in flight begin again in half as many slots. Where they take longer together
        than their limits allow, each runs alone, so that the one that hangs is found.

        Raises:
            MemoryError: there is too little for a single lane.
        """
        results: dict[str, TrialResult] = {}
        ready = []
        for job in jobs:
            begins = after_pretraining(self.context, guidance_of(job.strategy), job)
            if job.snapshot is None:
                progress(job.prepared)
            if begins is None:
                results[job.key] = diverged_before_start(job)
            else:
                ready.append(begins)
        on_results(list(results.values()))
        reported = len(results)
        waiting = deque(sorted(ready, key=lambda job: repr(self._group(job))))
        while waiting:
            kept, limits = list(waiting), [job.limit for job in waiting]
            try:
                limit = None if None in limits else sum(limit or 0.0 for limit in limits)
                with within(limit), with_threads(self.threads or torch.get_num_threads()):
                    self._fill(waiting, results, progress)
            except TookTooLong:
                on_results(list(results.values())[reported:])
                left = [job for job in kept if job.key not in results]
                results |= {result.key: result for result in Serial(self.context).run(left, progress, on_results)}
                break
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if self.width == 1:
                    raise MemoryError("memory ran out with a single lane: lower the task's batch_size") from error
            else:
                on_results(list(results.values())[reported:])
                reported = len(results)
                continue
            self.narrow()  # out of the except clause, whose error holds what memory there is
            waiting = deque(job for job in kept if job.key not in results)
        return [results[job.key] for job in jobs]

    def _fill(self, waiting: deque[Job], results: dict[str, TrialResult], progress: Progress) -> None:
        """Fills the slots from the queue and trains until all of them have ended."""
        context = self.context
        first = [waiting.popleft() for _ in range(min(self.width, len(waiting)))]
        flat = context.start(first[0].strategy.initialization, first[0].seed).repeat(self.width, 1)
        blocks = []
        for group, members in groupby(enumerate(first), key=lambda pair: self._group(pair[1])):
            slots = list(members)
            part = slice(slots[0][0], slots[-1][0] + 1)
            blocks.append(
                Block(group, flat[part], part, self._kernel(group, len(slots) == 1), context.places(group[0]))
            )
        lanes: list[Lane | None] = [None] * self.width
        for slot, job in enumerate(first):
            lanes[slot] = self._enter(block_of(blocks, slot), job, slot)
        elapsed = 0
        while any(lanes):
            live = [lane for lane in lanes if lane]
            stretch = min(lane.job.next_event(lane.t) - lane.t for lane in live)
            losses = self._advance(flat, blocks, lanes, stretch)
            progress(stretch * len(live))
            self._close(flat, blocks, lanes, losses, stretch, results)
            context.check_data()
            elapsed += stretch
            if any(lanes):  # once all slots are empty they are filled anew, for any rules
                self._refill(waiting, blocks, lanes, len(first), elapsed)

    def _refill(
        self, waiting: deque[Job], blocks: list[Block], lanes: list[Lane | None], used: int, elapsed: int
    ) -> None:
        """Puts waiting jobs of the right rule into empty slots, while it is early.

        A job that enters late ends late, with all other slots stepping idly.
        """
        for slot in [slot for slot in range(used) if lanes[slot] is None]:
            block = block_of(blocks, slot)
            fitting = (
                job for job in waiting if self._group(job) == block.group and 8 * elapsed <= job.stop - job.start
            )
            following = next(fitting, None)
            if following:
                waiting.remove(following)
                lanes[slot] = self._enter(block, following, slot)

    def _advance(self, flat: Tensor, blocks: list[Block], lanes: list[Lane | None], stretch: int) -> Tensor:
        """Takes ``stretch`` steps with every slot and returns the losses ``(stretch, width)``."""
        context = self.context
        some = next(lane for lane in lanes if lane)
        chosen = torch.stack(
            [
                guidance_of(lane.job.strategy).minibatches(context, lane.job, lane.t, lane.t + stretch)
                for lane in (one or some for one in lanes)
            ],
            dim=1,
        )
        context.data.train.expect(chosen)
        tables = zip(*(block.table(lanes, stretch, context.settings).unbind() for block in blocks), strict=True)
        losses = []
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            seed_torch(derive_seed(some.job.seed, "noise", some.t))
            for batches, coefficients in zip(chosen.unbind(), tables, strict=True):
                loss, grads, self.buffers.now = self.gradient(flat, self.buffers.now, batches)
                losses.append(loss)
                for block, c in zip(blocks, coefficients, strict=True):
                    block.step(grads, c)
                    if block.averages:
                        self.buffers.average(block.part, c[:, -1])
        return torch.stack(losses)

    def _close(
        self,
        flat: Tensor,
        blocks: list[Block],
        lanes: list[Lane | None],
        losses: Tensor,
        stretch: int,
        results: dict[str, TrialResult],
    ) -> None:
        """Looks at every lane after a stretch: adds points, ends what has ended and empties its slot."""
        due: list[int] = []
        means = losses.mean(dim=0).tolist()
        start = losses[0].tolist()
        for slot, lane in enumerate(lanes):
            if lane and lane.first is None:
                lane.first = start[slot]
        first = torch.tensor([lane.first if lane else 0.0 for lane in lanes], device=losses.device)
        usual = self.context.usual_loss()
        for slot, (lane, bad) in enumerate(zip(lanes, first_divergence(losses, first, usual), strict=True)):
            if lane is None:
                continue
            assert lane.first is not None
            if bad is not None:
                results[lane.job.key] = TrialResult(lane.job.key, "diverged", lane.t + bad + 1, lane.curve, lane.first)
                lanes[slot] = None
                continue
            lane.sum += means[slot] * stretch
            lane.since += stretch
            lane.t += stretch
            if lane.t % lane.job.evaluate_every == 0 or lane.t == lane.job.stop:
                due.append(slot)
        if not due:
            return
        flat, buffers = self._shown(flat, blocks)
        for slot, loss, metric in zip(due, *self.scores.of_slots(flat, buffers, due), strict=True):
            lane = lanes[slot]
            assert lane is not None
            lane.curve.add(lane.t, lane.sum / lane.since, loss, metric)
            lane.sum, lane.since = 0.0, 0
        ended = [slot for slot in due if (lane := lanes[slot]) and lane.t == lane.job.stop]
        tested = [slot for slot in ended if (lane := lanes[slot]) and lane.job.test]
        scores = {}
        if tested:
            _, metrics = self.scores.of(flat[tested], self.context.data.test, rows(buffers, tested))
            scores = dict(zip(tested, metrics.tolist(), strict=True))
        for slot in ended:
            lane = lanes[slot]
            assert lane is not None
            assert lane.first is not None
            snapshot, job = block_of(blocks, slot).state(slot, self.buffers).encode(), lane.job
            results[job.key] = TrialResult(
                job.key, "finished", lane.t, lane.curve, lane.first, scores.get(slot), snapshot
            )
            lanes[slot] = None

    def _shown(self, flat: Tensor, blocks: list[Block]) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the parameters and the statistics that are judged: the averages, where there are such."""
        apart = [block for block in blocks if block.shown is not block.params]
        if apart:
            flat = flat.clone()
            for block in apart:
                flat[block.part] = block.shown
        return flat, self.buffers.shown([block.part for block in blocks if block.averages])

    def _group(self, job: Job) -> Group:
        return group_of(job, self.context.settings)

    def _kernel(self, group: Group, single: bool) -> Kernel:
        key = group, single
        if key not in self._kernels:
            context, places = self.context, self.context.places(group[0])
            self._kernels[key] = update_kernel(
                *group, context.decayed, context.layout, self.compile, context.setting_of, places
            )
        return self._kernels[key]
