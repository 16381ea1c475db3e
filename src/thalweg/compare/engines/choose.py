"""Which engine trains what, measured for a moment, with the reason in words."""

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch

from thalweg.compare.engines.closure_run import ClosureRun, unaffordable
from thalweg.compare.engines.job import Engine, Job, Unstackable, Workshop
from thalweg.compare.engines.lanes import Lanes, has_randomness
from thalweg.compare.engines.optimizers import make_optimizers
from thalweg.compare.engines.serial import Serial
from thalweg.compare.guidance import guidance_of
from thalweg.compare.strategy import Strategy
from thalweg.second_order import NotAnObjective

Name = Literal["auto", "lanes", "serial"]
WIDEST = 64  # more lanes than this gain nothing
OVERHEAD = 12  # what a step costs whatever its width, in steps of one lane
COMPILE_SECONDS = 10.0  # what compiling a task's gradient and update kernels takes, between a cold and a warm cache


@dataclass(frozen=True)
class Choice:
    """What was chosen for a group of strategies, and why."""

    group: str
    name: str
    reason: str
    trial_steps_per_second: float
    width: int = 1
    set_up_seconds: float = 0.0
    serial_threads: int = 0  # threads of a serial run, also of the finalists that are timed alone
    variant: str = ""  # of the model

    def as_dict(self) -> dict[str, Any]:
        """Returns the choice as plain values."""
        return asdict(self)


def free_memory(device: torch.device) -> int:
    """Returns the bytes that are free on the device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo") as lines:
            return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    except (OSError, StopIteration):
        import os

        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def lane_bytes(shop: Workshop) -> int:
    """Returns the bytes that one lane takes: parameters, gradient, state, activations kept for the backward pass."""
    kept = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    rows = shop.batches(0, 0, 1)[0]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        shop.task.training_loss(shop.model, shop.model(shop.data.train_x[rows]), shop.data.train_y[rows])
    evaluated = shop.data.valid_x[:1024].numel() * 4
    return 4 * shop.layout.size * 8 + 2 * kept + evaluated


class Chooser:
    """Chooses among the engines for one study and keeps those it made.

    ``memory`` bounds the bytes that lanes may take; ``rungs`` are the study's (number of runs, steps of each);
    ``variant`` is that of the shop's model.
    """

    def __init__(
        self, shop: Workshop, wanted: Name, memory: int | None, rungs: Sequence[tuple[int, int]], variant: str = ""
    ) -> None:
        self.shop, self.wanted, self.rungs, self.variant = shop, wanted, rungs, variant
        self.memory = memory if memory is not None else free_memory(shop.device) // 2
        self.serial = Serial(shop)
        self.lanes: Lanes | None = None
        self.choices: list[Choice] = []
        self._of: dict[str, Engine] = {}

    def engine_of(self, strategy: Strategy) -> Engine:
        """Returns the engine chosen for the strategy."""
        return self._of[strategy.name]

    def choose(self, strategies: Sequence[Strategy], job: Job) -> list[Choice]:
        """Chooses for all strategies; ``job`` is a specimen of the first rule's runs.

        Raises:
            Unstackable: lanes were asked for and the model cannot be stacked.
        """
        self.serial.settle_threads(job)
        rules = [s for s in strategies if s.rule is not None and not guidance_of(s).reason]
        others = [s for s in strategies if s not in rules]
        if rules:
            choice = self._choose_for_rules(job, len(rules))
            engine: Engine = self.lanes if choice.name == "lanes" and self.lanes else self.serial
            self.choices.append(choice)
            self._of |= {s.name: engine for s in rules}
        for strategy in others:
            self.choices.append(self._choose_for_factory(strategy, job))
            self._of[strategy.name] = self.serial
        own = {"serial_threads": self.serial.threads, "variant": self.variant}
        self.choices = [replace(choice, **own) for choice in self.choices]  # type: ignore[arg-type]
        return self.choices

    def reuse(self, strategies: Sequence[Strategy], stored: Sequence[dict[str, Any]]) -> None:
        """Takes up the choice that the store recorded, so that a resumed study runs on the same engine."""
        self.choices = [c for c in (Choice(**choice) for choice in stored) if c.variant == self.variant]
        self.serial.threads = self.choices[0].serial_threads or self.serial.threads
        by_group = {choice.group: choice for choice in self.choices}
        for strategy in strategies:
            choice = by_group.get(strategy.name) or next(c for c in self.choices if c.group.startswith("update rules"))
            if choice.name == "lanes" and self.lanes is None:
                self.lanes = Lanes(self.shop, choice.width)
            self._of[strategy.name] = self.lanes if choice.name == "lanes" and self.lanes else self.serial

    def _choose_for_factory(self, strategy: Strategy, job: Job) -> Choice:
        specimen = replace(job, strategy=strategy, hyper=strategy.default_configuration())
        if strategy.closure:
            return self._choose_for_closure(specimen)
        if reason := guidance_of(strategy).reason:
            return Choice(strategy.name, "serial", reason, 1 / self.serial.seconds_per_step(job, 0.1))
        hyper = strategy.stepping(specimen.hyper)
        specimen = replace(specimen, strategy=replace(strategy, guidance="none"), hyper=hyper)
        optimizers = make_optimizers(strategy, self.shop.model, specimen.hyper, self.shop.decay)
        reason = "an optimizer made by a factory steps one model at a time"
        if len(optimizers) > 1:
            reason += "; it takes matrices alone, so AdamW at its defaults steps the other parameters"
        return Choice(strategy.name, "serial", reason, 1 / self.serial.seconds_per_step(specimen, 0.1))

    def _choose_for_closure(self, specimen: Job) -> Choice:
        too_much = unaffordable(self.shop, replace(specimen, stop=self.rungs[0][1]))
        if too_much:
            raise ValueError(too_much)
        unit = ClosureRun(self.shop, specimen).unit
        reason = f"it evaluates the loss several times a step, at {unit:.3g} minibatches each by default"
        if has_randomness(self.shop.model):
            reason += "; the model draws noise, as dropout does, so that no two evaluations are alike"
        try:
            seconds = self.serial.seconds_per_step(specimen, 0.3)
        except (NotImplementedError, NotAnObjective) as error:
            raise ValueError(f"strategy {specimen.strategy.name!r} cannot step this model: {error}") from error
        return Choice(specimen.strategy.name, "serial", reason, 1 / seconds)

    def _choose_for_rules(self, job: Job, count: int) -> Choice:
        group = f"update rules ({count} strateg{'y' if count == 1 else 'ies'})"
        began = time.perf_counter()
        if self.wanted == "serial":
            return Choice(group, "serial", "asked for", 1 / self.serial.seconds_per_step(job, 0.1))
        width = self._width()
        try:
            trial = Lanes(self.shop, width, compile_=False)
            trial.probe()
        except Unstackable as error:
            if self.wanted == "lanes":
                raise
            return Choice(
                group, "serial", f"lanes are not possible: {error}", 1 / self.serial.seconds_per_step(job, 0.1)
            )
        note = (
            "; dropout draws differ from a serial run's, equal in distribution only"
            if has_randomness(self.shop.model)
            else ""
        )
        alone = self.serial.seconds_per_step(job, 0.2)
        if self.wanted == "auto":
            whole = alone * sum(runs * steps for runs, steps in self.rungs)
            if whole < COMPILE_SECONDS:
                reason = f"one at a time all takes about {whole:.0f} s, less than compiling lanes would"
                return Choice(group, "serial", reason, 1 / alone)
            uncompiled = self._seconds_per_trial_step(trial, job)
            if uncompiled > 6 * alone:
                reason = (
                    f"stacked steps take {uncompiled / alone:.1f} × a step alone (typical of convolutions on a CPU)"
                )
                return Choice(group, "serial", reason, 1 / alone)
        self.lanes = Lanes(self.shop, width)
        try:
            with warnings.catch_warnings(action="ignore"):
                stacked = self._seconds_per_trial_step(self.lanes, job)
        except Exception as error:  # what torch's compiler raises is of any kind
            self.lanes = None
            reason = f"torch cannot compile it ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]})"
            if self.wanted == "lanes":
                raise Unstackable(reason) from error
            return Choice(group, "serial", f"lanes are not possible: {reason}", 1 / alone)
        setup = time.perf_counter() - began
        if self.wanted == "auto" and stacked > alone:
            self.lanes = None
            reason = f"measured {alone * 1e6:.0f} µs a trial-step alone, {stacked * 1e6:.0f} µs in {width} lanes"
            return Choice(group, "serial", reason, 1 / alone, 1, setup)
        reason = f"measured {stacked * 1e6:.0f} µs a trial-step in {width} lanes, {alone * 1e6:.0f} µs alone{note}"
        return Choice(group, "lanes", reason, 1 / stacked, width, setup)

    def _width(self) -> int:
        """Returns the number of slots, within memory, with which the rungs leave the least of them empty."""
        fits = max(1, min(WIDEST, self.memory // lane_bytes(self.shop)))

        def cost(width: int) -> float:
            return sum(math.ceil(runs / width) * steps * (width + OVERHEAD) for runs, steps in self.rungs)

        return min(range(1, fits + 1), key=cost)

    def _seconds_per_trial_step(self, lanes: Lanes, job: Job, budget: float = 0.3) -> float:
        """Returns the seconds that a step of one lane takes when all slots are full; compiles it, and the scores."""
        flat = self.shop.start(job.strategy.initialization, job.seed).repeat(lanes.width, 1)
        rows = self.shop.batches(job.seed, 0, 1).expand(lanes.width, -1).contiguous()
        with torch.no_grad():
            lanes.gradient(flat, lanes.buffers.now, rows)
            lanes.gradient(flat, lanes.buffers.now, rows)
            lanes.scores.of_slots(flat, lanes.buffers.now, [0])
            seconds: list[float] = []
            while sum(seconds) < budget and len(seconds) < 100:
                began = time.perf_counter()
                lanes.gradient(flat, lanes.buffers.now, rows)
                seconds.append(time.perf_counter() - began)
        return sorted(seconds)[len(seconds) // 2] / lanes.width
