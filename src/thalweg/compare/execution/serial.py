"""One trial at a time: any model, any optimizer."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from thalweg.compare.execution.cannot_run import CannotRun
from thalweg.compare.execution.closure_run import ClosureRun
from thalweg.compare.execution.coefficients import coefficient_names, coefficient_table
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.divergence import first_divergence
from thalweg.compare.execution.factory import FactoryRun
from thalweg.compare.execution.guidance import Guidance, after_pretraining, guidance_of
from thalweg.compare.execution.job import (
    Job,
    Progress,
    ResultCallback,
    could_not_run,
    diverged_before_start,
    ignore_results,
)
from thalweg.compare.execution.kernel_layout import AVERAGE
from thalweg.compare.execution.kernels import Kernel, clipping, shown_slot, slots_of, update_kernel
from thalweg.compare.execution.partners import has_matrices, no_matrices
from thalweg.compare.execution.shortage import TookTooLong, within
from thalweg.compare.execution.step_run import StepRun
from thalweg.compare.execution.timing import in_turns, mean_seconds, with_threads
from thalweg.compare.execution.trial_state import TrialState, attributes_of
from thalweg.compare.storage.result import Curve, TrialResult
from thalweg.compare.task import HeldSplit, Split
from thalweg.compare.task.examples import input_of
from thalweg.compare.task.judging import constant_output
from thalweg.compare.user_errors import TaskError
from thalweg.rules.rule import Rule
from thalweg.tensors import derive_seed
from thalweg.tensors.draws import own_draws

COMPILE_ABOVE = 200_000  # parameters; below, a compiled update saves less than its second of compiling costs
WARM_UP = 2  # steps before those that are timed


class Serial:
    """Trains jobs one after another.

    A rule steps flat memory: the model's parameters and gradients are views of one vector each, so that a
    step is one kernel. An optimizer made by a factory, or a loss of a guidance's own, is driven as its user would.
    """

    name = "serial"

    def __init__(self, context: TaskContext, threads: int | None = None) -> None:
        self.context, self.threads = context, threads or torch.get_num_threads()
        self._kernels: dict[tuple[Rule, tuple[str, ...]], Kernel] = {}

    def run(
        self, jobs: Sequence[Job], progress: Progress, on_results: ResultCallback = ignore_results
    ) -> list[TrialResult]:
        """Trains every job to its end."""
        results = []
        with with_threads(self.threads):
            for job in jobs:
                results.append(self._limited(job, progress))
                on_results(results[-1:])
        return results

    def settle_threads(self, job: Job, margin: float = 1.0) -> None:
        """Chooses one thread or all of them, whichever trains the job faster: small models gain nothing from two.

        It changes the number only for one that is faster by the ``margin``.
        """

        def seconds(count: int) -> float:
            self.threads = count
            return self.seconds_per_step(job, most)

        most, now = torch.get_num_threads(), self.threads
        if most > 1 and self.context.device.type == "cpu":
            other = most if now == 1 else 1
            this, that = in_turns([partial(seconds, now), partial(seconds, other)])
            self.threads = other if margin * that < this else now

    def seconds_per_step(self, job: Job, threads: int | None = None) -> float:
        """Returns the mean seconds of a training step of the job, run alone, after a warm-up; its limit at most.

        ``threads`` are those of what it is compared with, its own by default, see :func:`timing.now`. Of what cannot
        run it is NaN.
        """
        try:
            return self.timed(job, threads)
        except CannotRun:
            return math.nan

    def timed(self, job: Job, threads: int | None = None) -> float:
        """Returns what :meth:`seconds_per_step` does; may raise :class:`CannotRun`."""
        try:
            with within(job.limit), with_threads(self.threads):
                return self._seconds_per_step(job, threads or self.threads)
        except TookTooLong:
            return job.limit or math.inf

    def _seconds_per_step(self, job: Job, threads: int) -> float:
        run = self._open(job)
        if isinstance(run, ClosureRun):
            return run.seconds_per_unit(threads)
        start, most = job.prepared, min(300, job.total - job.prepared)
        rows = guidance_of(job.strategy).minibatches(self.context, job, start, start + most)
        self.context.data.train.expect(rows)
        warm = min(WARM_UP, most - 1)
        for i in range(warm):
            run.step(rows[i], start + i)

        def step(i: int) -> None:  # goes on from there, so that no stream is opened again
            run.step(rows[warm + i], start + warm + i)

        return mean_seconds(step, self.context.device, threads, most=most - warm)

    def _open(self, job: Job) -> "_RuleRun | FactoryRun | ClosureRun":
        if job.strategy.closure:
            return ClosureRun(self.context, job)
        guidance = guidance_of(job.strategy)
        if job.strategy.rule is None or guidance.reason or self.context.task.precision == "fp16":
            return FactoryRun(self.context, job, guidance)
        if not has_matrices(self.context, job.strategy):
            raise no_matrices()
        return _RuleRun(self.context, job, guidance, self._kernel(job))

    def _kernel(self, job: Job) -> Kernel:
        assert job.strategy.rule is not None
        names = tuple(coefficient_names(job, self.context.settings))
        key = (job.strategy.rule, names)
        if key not in self._kernels:
            context = self.context
            self._kernels[key] = update_kernel(
                job.strategy.rule,
                names,
                context.decayed,
                context.layout,
                context.layout.size > COMPILE_ABOVE,
                context.setting_of,
                context.places(job.strategy.rule),
            )
        return self._kernels[key]

    def _limited(self, job: Job, progress: Progress) -> TrialResult:
        """Returns the result of the job, which includes what comes before its first step, within its limit."""
        try:
            with within(job.limit):
                ready = after_pretraining(self.context, guidance_of(job.strategy), job)
                if job.snapshot is None:
                    progress(job.prepared)
                return diverged_before_start(job) if ready is None else self._train(ready, progress)
        except TookTooLong:
            return TrialResult(job.key, "timed out", job.start, Curve(), math.nan)
        except CannotRun as failure:
            return could_not_run(job, job.start, failure)

    def _train(self, job: Job, progress: Progress) -> TrialResult:
        context, run, curve = self.context, self._open(job), Curve()
        first, t = job.first_loss, job.start
        while t < job.stop:
            end = job.next_event(t)
            with own_draws(derive_seed(job.seed, "noise", t)):  # optimizers draw from NumPy's and Python's too
                losses = run.advance(t, end)
            progress(end - t)
            first = float(losses[0]) if first is None else first
            start = torch.tensor([first], device=losses.device)
            bad = first_divergence(losses[:, None], start, context.usual_loss())[0]
            if bad is not None:
                return TrialResult(job.key, "diverged", t + bad + 1, curve, first)
            t = end
            with run.shown() as model:
                loss, metric = self._evaluate(model, context.data.valid)
            curve.add(t, float(losses.mean()), loss, metric)
        assert first is not None
        with run.shown() as model:
            test = self._evaluate(model, context.data.test)[1] if job.test else None
        return TrialResult(job.key, "finished", t, curve, first, test, run.snapshot())

    def untrained_test(self, scheme: str, seed: int) -> float:
        """Returns the test metric of the model before any step."""
        return self._evaluate(self.context.fresh_model(scheme, seed), self.context.data.test)[1]

    def constant_test(self) -> float:
        """Returns the test metric of the best constant model; NaN where it is not known which that is."""
        context = self.context
        train, test, loss = context.data.train, context.data.test, context.task.loss
        if loss is None or not isinstance(train, HeldSplit):
            return math.nan
        with torch.no_grad():
            some = context.fresh_model("default", 0).eval()(input_of(test.head(1)))
        constant = constant_output(train.target, some, loss) if isinstance(some, Tensor) else None
        if constant is None:
            return math.nan
        try:
            metric = test.evaluate(lambda x: constant.expand(len(x), *some.shape[1:]), context.score)[1]
            return float(metric)
        except Exception:  # a metric of the user's that has no value for what is constant
            return math.nan

    def _evaluate(self, model: nn.Module, split: Split) -> tuple[float, float]:
        found = self.context.evaluate(model, split)
        self.context.check_data()
        return found


class _RuleRun(StepRun):
    """A model whose parameters and gradients are views of flat vectors ``(1, n)``, stepped by a rule."""

    def __init__(self, context: TaskContext, job: Job, guidance: Guidance, kernel: Kernel) -> None:
        assert job.strategy.rule is not None
        self.context, self.job, self.kernel, self.rule = context, job, kernel, job.strategy.rule
        self.guidance = guidance
        self.model = context.fresh_model(job.strategy.initialization, job.seed)
        kinds = {p.dtype for p in self.model.parameters() if p.requires_grad}
        if len(kinds) > 1 or any(kind.is_complex for kind in kinds):
            named = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
            raise TaskError(
                f"strategy {job.strategy.name!r} steps real parameters of one type, and these are {named}: convert "
                "them, or compare optimizers such as torch.optim.AdamW"
            )
        self.flat = context.start(job.strategy.initialization, job.seed).to(context.device, copy=True)[None]
        self.grads = torch.zeros_like(self.flat)
        values, grads = context.layout.unflatten(self.flat[0]), context.layout.unflatten(self.grads[0])
        self.viewed = [(p, grads[name]) for name, p in self.model.named_parameters() if name in values]
        for name, parameter in self.model.named_parameters():
            if name in values:
                parameter.data, parameter.grad = values[name], grads[name]
        state = TrialState.decode(job.snapshot)
        state.put(self.model, context.layout)
        slots = slots_of(self.rule, job.strategy.averaging != "none", context.places(self.rule))
        self.state = {name: state.slot(name, slot, self.flat[0]).clone()[None] for name, slot in slots.items()}
        averaged = {n: b for n, b in self.model.named_buffers() if AVERAGE in slots and b.is_floating_point()}
        self.means = [(buffer, state.buffer_mean(name, buffer).clone(), name) for name, buffer in averaged.items()]
        self.prepare(job.start, min(job.total, job.start + 300))

    def prepare(self, start: int, stop: int) -> None:
        """Computes the coefficients of steps ``start`` to ``stop``."""
        table = coefficient_table(self.job, start, stop, self.context.settings)
        self.offset, self.table = start, table.to(self.flat)

    def step(self, rows: Tensor, t: int) -> Tensor:
        """Takes one training step and returns the minibatch loss."""
        self.grads.zero_()
        task, train, losses = self.context.task, self.context.data.train, []
        for part in self.context.parts(rows):
            loss, _ = task.loss_and_output(self.model, train.batch(part))
            (loss if task.accumulate == 1 else loss / task.accumulate).backward()
            losses.append(loss.detach())
        for parameter, view in self.viewed if task.step is not None else ():
            if parameter.grad is not view:  # the step has called zero_grad(), say
                view.zero_() if parameter.grad is None else view.copy_(parameter.grad)
                parameter.grad = view
        if task.clip_norm is not None:
            self.grads *= clipping(self.grads, task.clip_norm)
        i = t - self.offset
        with torch.no_grad():
            self.kernel(self.flat, self.grads, list(self.state.values()), self.table[i : i + 1])
            for buffer, mean, _ in self.means:
                mean.lerp_(buffer, self.table[i, -1])
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    @contextmanager
    def shown(self) -> Iterator[nn.Module]:
        """Runs its body with the averages in the model where there are such, or with what the rule shows."""
        slot = shown_slot(self.rule, AVERAGE in self.state)
        if slot is None:
            yield self.model
            return
        pairs = [(self.flat, self.state[slot]), *((buffer, mean) for buffer, mean, _ in self.means)]
        kept = [value.clone() for value, _ in pairs]
        with torch.no_grad():
            for value, mean in pairs:
                value.copy_(mean)
            yield self.model
            for (value, _), before in zip(pairs, kept, strict=True):
                value.copy_(before)

    def snapshot(self) -> dict[str, Tensor]:
        """Returns all that the rest of the run depends on."""
        slots = {name: held[0] for name, held in self.state.items()}
        means = {name: mean for _, mean, name in self.means}
        own = attributes_of(self.model, self.context.kept)
        return TrialState(self.flat[0], dict(self.model.named_buffers()), slots, means, attributes=own).encode()
