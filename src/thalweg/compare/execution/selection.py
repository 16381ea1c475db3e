"""Which engine trains what, measured in turns for a moment, with the reason in words."""

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, TypeVar

import torch

from thalweg.compare.execution.cannot_run import CannotRun
from thalweg.compare.execution.choice import OF_RULES, Choice, Stored
from thalweg.compare.execution.closure_run import ClosureRun, refusing, unaffordable
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.guidance import guidance_of
from thalweg.compare.execution.job import Engine, Job
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.memory import free_memory, lane_bytes
from thalweg.compare.execution.optimizers import make_optimizers
from thalweg.compare.execution.partners import has_matrices
from thalweg.compare.execution.serial import Serial
from thalweg.compare.execution.shortage import out_of_memory
from thalweg.compare.execution.stackable import Unstackable
from thalweg.compare.execution.stacked_form import is_recurrent, swapped_kinds, usually_slow
from thalweg.compare.execution.timing import in_turns, mean_seconds, with_threads
from thalweg.compare.strategy import Strategy

T = TypeVar("T")
Name = Literal["auto", "lanes", "serial"]
WIDEST = 64  # more lanes than this gain nothing
OVERHEAD = 12  # what a step costs whatever its width, in steps of one lane
COMPILE_SECONDS = 10.0  # what compiling a task's gradient and update kernels takes, between a cold and a warm cache
TOO_SLOW = 6.0  # times a step alone: where stacked steps take so long, compiling them does not make them faster
MARGIN = 1.25  # times as fast another engine must be to take over from the one that trains
AGAIN = "; chosen again, with the same results to rounding"


class EngineSelector:
    """Chooses among the engines for one study and keeps those it made.

    ``memory`` bounds the bytes that lanes may take; ``rungs`` are the study's (number of runs, steps of each);
    ``variant`` is that of the context's model; ``first`` the gradient evaluations of the first rung of strategies.
    """

    def __init__(
        self,
        context: TaskContext,
        wanted: Name,
        memory: int | None,
        rungs: Sequence[tuple[int, int]],
        variant: str = "",
        first: Mapping[str, int] | None = None,
    ) -> None:
        self.context, self.wanted, self.rungs, self.left, self.variant = context, wanted, rungs, rungs, variant
        self.first = first or {}
        self.memory = memory if memory is not None else free_memory(context.device) // 2
        self.serial = Serial(context)
        self.lanes: Lanes | None = None
        self.choices: list[Choice] = []
        self.failures: dict[str, CannotRun] = {}
        self._of: dict[str, Engine] = {}

    def engine_of(self, strategy: Strategy) -> Engine:
        """Returns the engine chosen for the strategy."""
        return self._of[strategy.name]

    def choose(self, strategies: Sequence[Strategy], job: Job, stored: Stored = ()) -> list[Choice]:
        """Chooses for all strategies that stored choices leave out; ``job`` is a specimen of the first rule's runs.

        Raises:
            Unstackable: lanes were asked for and the model cannot be stacked.
        """
        choices, rules = self._known(stored), self._rules(strategies)
        if not choices:
            self.serial.settle_threads(job)
        if rules and not any(choice.is_of_rules for choice in choices):
            choices.insert(0, self._choose_for_rules(job, len(rules)))
        chosen = {choice.group for choice in choices}
        choices += [self._choose_or_fail(s, job) for s in strategies if s not in rules and s.name not in chosen]
        self._take(strategies, choices)
        return self.choices

    def choose_again(self, strategies: Sequence[Strategy], job: Job, left: Sequence[tuple[int, int]]) -> None:
        """Chooses anew for the rungs that are ``left``, where they take so long that it pays.

        A study that began on a busy machine need not stay with what was measured then. Records are the same to
        rounding, whichever engine trains and with however many threads.
        """
        self.left = left
        pace = sum(1 / choice.trial_steps_per_second for choice in self.choices) / len(self.choices)
        if pace * sum(runs * steps for runs, steps in left) < COMPILE_SECONDS:
            return
        threads = self.serial.threads
        self.serial.settle_threads(job, MARGIN)
        choices, rules = list(self.choices), self._rules(strategies)
        if rules and self.wanted == "auto":
            again = self._choose_for_rules(job, len(rules), choices[0].name)
            if again.name != choices[0].name:
                choices[0] = replace(again, reason=again.reason + AGAIN)
        if self.serial.threads != threads:
            now = f"{AGAIN}, on {self.serial.threads} thread{'s' * (self.serial.threads > 1)}"
            choices = [
                replace(c, reason=c.reason.partition(AGAIN)[0] + now) if c.name == "serial" else c for c in choices
            ]
        self._take(strategies, choices)

    def _take(self, strategies: Sequence[Strategy], choices: Sequence[Choice]) -> None:
        own = {"serial_threads": self.serial.threads, "variant": self.variant}
        self.choices = [replace(choice, **own) for choice in choices]  # type: ignore[arg-type]
        by_group = {choice.group: choice for choice in choices}
        for strategy in strategies:
            choice = by_group.get(strategy.name, choices[0])  # that of the rules comes first
            if choice.name == "lanes" and self.lanes is None:
                self.lanes = Lanes(self.context, choice.width, not is_recurrent(self.context.model))
            if choice.name == "lanes" and self.lanes:
                self.lanes.threads = choice.lane_threads
            self._of[strategy.name] = self.lanes if choice.name == "lanes" and self.lanes else self.serial

    def reuse(self, strategies: Sequence[Strategy], stored: Stored) -> None:
        """Takes up the choice that the store recorded, so that a resumed study runs on the same engine."""
        self._take(strategies, self._known(stored))

    def _known(self, stored: Stored) -> list[Choice]:
        """Takes up the threads that the store recorded; returns the choices of the variant, that of the rules first."""
        found = [c for c in (Choice(**choice) for choice in stored) if c.variant == self.variant]
        if found:
            self.serial.threads = found[0].serial_threads or self.serial.threads
        return sorted(found, key=lambda choice: not choice.is_of_rules)

    def _rules(self, strategies: Sequence[Strategy]) -> list[Strategy]:
        """Returns the strategies that lanes can train, where the model allows it."""
        rules = [s for s in strategies if s.rule is not None and not guidance_of(s).reason]
        return [s for s in rules if has_matrices(self.context, s)]

    def _choose_or_fail(self, strategy: Strategy, job: Job) -> Choice:
        """Chooses for a strategy that may turn out not to be able to train the model."""
        try:
            return self._choose_for_factory(strategy, job)
        except CannotRun as failure:
            self.failures[strategy.name] = failure
            return Choice.of_failure(strategy.name, failure)

    def _choose_for_factory(self, strategy: Strategy, job: Job) -> Choice:
        specimen = replace(job, strategy=strategy, hyper=strategy.default_configuration())
        if strategy.closure:
            return self._choose_for_closure(specimen)
        if reason := guidance_of(strategy).reason:
            return Choice(strategy.name, "serial", reason, 1 / self.serial.seconds_per_step(job))
        hyper = strategy.stepping(specimen.hyper)
        specimen = replace(specimen, strategy=replace(strategy, guidance="none"), hyper=hyper)
        context, roles = self.context, partial(getattr, self.context, "roles")
        own = (specimen.hyper, context.decay, context.task.grouping, roles)
        optimizers = make_optimizers(strategy, context.model, *own, steps=job.total)
        reason = "an optimizer made by a factory updates one model at a time"
        if len(optimizers) > 1 and not strategy.has_partner:
            reason += (
                "; it accepts only matrices, so AdamW with its default settings updates the other parameters: search "
                "adamw_lr too, to tune it"
            )
        return Choice(strategy.name, "serial", reason, 1 / self.serial.timed(specimen))

    def _choose_for_closure(self, specimen: Job) -> Choice:
        task = self.context.task
        if task.clip_norm is not None or task.precision == "fp16":
            what = "clips gradients" if task.clip_norm is not None else "scales the loss in float16"
            raise ValueError(
                f"strategy {specimen.strategy.name!r} evaluates the loss several times a step, and the task {what}: "
                "omit that, or the strategy"
            )
        too_much = unaffordable(
            self.context, replace(specimen, stop=self.first.get(specimen.strategy.name, self.rungs[0][1]))
        )
        if too_much:
            raise ValueError(too_much)
        unit = ClosureRun(self.context, specimen).unit
        reason = f"each step evaluates the loss several times, by default on {unit:.3g} minibatches"
        if self.context.is_random():
            reason += "; the model is random, as with dropout, so that no two evaluations are equal"
        with refusing(specimen.strategy.name):
            return Choice(specimen.strategy.name, "serial", reason, 1 / self.serial.timed(specimen))

    def _choose_for_rules(self, job: Job, count: int, trains: str = "") -> Choice:
        """Chooses for so many strategies; the engine that ``trains`` them goes on unless the other is much faster."""
        group = f"{OF_RULES}{count} strateg{'y' if count == 1 else 'ies'})"
        began, (alone,) = time.perf_counter(), in_turns([partial(self.serial.seconds_per_step, job)])
        reason = "asked for" if self.wanted == "serial" else self._against_lanes(job, alone)
        if reason or self.lanes is None:
            return Choice(group, "serial", reason, 1 / alone)
        (stacked, alone), threads = self._in_turns(self.lanes, self.serial, job), 0
        if self.wanted == "auto" and self.context.device.type == "cpu" and torch.get_num_threads() > 1:
            with with_threads(1):
                again = self._in_turns(self.lanes, Serial(self.context, 1), job)
            if MARGIN * again[0] / again[1] < stacked / alone:  # threads wait for each other where others run too
                (stacked, alone), threads = again, 1
        setup, width = time.perf_counter() - began, self.lanes.width
        both = [f"{stacked * 1e6:.0f} µs per trial-step in {width} lanes", f"{alone * 1e6:.0f} µs serially"]
        handicap = {"lanes": MARGIN, "serial": 1 / MARGIN}.get(trains, 1.0)
        if self.wanted == "auto" and stacked > handicap * alone:
            return Choice(group, "serial", f"measured in turns: {both[1]}, {both[0]}", 1 / alone, 1, setup)
        reason = f"measured in turns: {both[0]}, {both[1]}"
        if swapped := swapped_kinds(self.context.model):
            reason += f"; lanes compute torch's {' and '.join(swapped)} by thalweg's, which can be stacked"
        if self.context.is_random():
            reason += (
                "; dropout draws differ from those of a serial run, so that results are equal only in distribution"
            )
        return Choice(group, "lanes", reason, 1 / stacked, width, setup, lane_threads=threads)

    def _against_lanes(self, job: Job, alone: float) -> str:
        """Returns why lanes are not worth compiling; where there is no reason, compiles them.

        Raises:
            Unstackable: they were asked for, and are not possible.
        """
        if self.lanes:
            return ""
        try:
            trial = Lanes(self.context, self._width(), compile_=False)
            trial.probe()
        except Unstackable as error:
            if self.wanted == "lanes":
                raise
            return f"lanes are not possible: {error}"
        if self.wanted == "auto":
            whole = alone * sum(runs * steps for runs, steps in self.left)
            if whole < COMPILE_SECONDS:
                return f"training one trial at a time takes about {whole:.0f} s in all, less than compiling lanes"
            slower = self._times_alone(trial, job)
            if slower > (1.0 if is_recurrent(self.context.model) else TOO_SLOW):
                kind = usually_slow(self.context.model, self.context.device)
                usual = f" (typical of {kind} on a CPU)" if kind else ""
                return f"measured in turns: stacked steps take {slower:.1f} times as long as single steps{usual}"
        compiles = not is_recurrent(self.context.model)  # unrolled steps would compile for minutes
        lanes = Lanes(self.context, trial.width, compiles)
        try:
            with warnings.catch_warnings(action="ignore"):
                _within_memory(lanes, lambda: self._stacked(lanes, job))
        except Exception as error:  # what torch's compiler raises is of any kind
            reason = f"torch cannot compile it ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]})"
            if self.wanted == "lanes":
                raise Unstackable(reason) from error
            return f"lanes are not possible: {reason}"
        self.lanes = lanes
        return ""

    def _times_alone(self, lanes: Lanes, job: Job) -> float:
        """Returns how many times as long as a step alone an uncompiled stacked step takes for each of its lanes.

        On a busy machine many short operations wait for a thread that is kept from running, many times each step; they
        count only where they take long on one thread too.
        """
        stacked, alone = self._in_turns(lanes, self.serial, job)
        if stacked > TOO_SLOW * alone and torch.get_num_threads() > 1:
            with with_threads(1):
                again = self._in_turns(lanes, Serial(self.context, 1), job)
            return min(stacked / alone, again[0] / again[1])
        return stacked / alone

    def _width(self) -> int:
        """Returns the number of slots, within memory, with which the rungs leave the least of them empty."""
        fits = max(1, min(WIDEST, self.memory // lane_bytes(self.context)))

        def cost(width: int) -> float:
            return sum(math.ceil(runs / width) * steps * (width + OVERHEAD) for runs, steps in self.rungs)

        return min(range(1, fits + 1), key=cost)

    def _in_turns(self, lanes: Lanes, serial: Serial, job: Job) -> tuple[float, float]:
        """Returns the seconds of a step of one lane, all slots being full, and of a step alone."""
        by_itself = partial(serial.seconds_per_step, job, torch.get_num_threads())
        stacked, alone = _within_memory(lanes, lambda: in_turns([self._stacked(lanes, job), by_itself]))
        return stacked, alone

    def _stacked(self, lanes: Lanes, job: Job) -> Callable[[], float]:
        """Returns what measures the seconds of a step of one lane; compiles the steps and the scores before."""
        flat = self.context.start(job.strategy.initialization, job.seed).repeat(lanes.width, 1)
        rows = self.context.batches(job.seed, 0, 1)
        rows = rows.expand(lanes.width, *rows.shape[1:]).contiguous()

        def step(_: int) -> None:
            with torch.no_grad():
                lanes.gradient(flat, lanes.buffers.now, rows)

        step(0)
        step(0)
        lanes.scores.of_slots(flat, lanes.buffers.now, [0])
        return lambda: mean_seconds(step, self.context.device, torch.get_num_threads()) / lanes.width


def _within_memory(lanes: Lanes, measure: Callable[[], T]) -> T:
    """Returns what a function of the lanes returns; where memory runs out, it is called again with half as many."""
    while True:
        try:
            return measure()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or lanes.width == 1:
                raise
        lanes.narrow()  # out of the except clause, whose error holds what memory there is
