"""What an engine is given and what it gives back."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from thalweg.compare.engines.kernels import AVERAGE
from thalweg.compare.strategy import Strategy
from thalweg.compare.task import Data, Task, build_model
from thalweg.compare.user_errors import TaskError
from thalweg.compare.variants import INITIALIZATIONS, averaging_of
from thalweg.initialization import initialize
from thalweg.optim.decay import Decay, is_weight
from thalweg.rules.rule import Rule, scalars_of_step
from thalweg.rules.schedules import Schedule
from thalweg.tensors import Layout, derive_seed, generator
from thalweg.tensors.form import require, taken
from thalweg.tensors.private import write_count

DIVERGED_AT = 10.0  # a loss above this multiple of the run's first loss has diverged


class Unstackable(Exception):
    """The model cannot be trained in lanes; the message is the reason."""


@dataclass(frozen=True)
class Job:
    """One stretch of one trial: a configuration under a seed, from step ``start`` to step ``stop``.

    ``total`` is the length of the whole run, of which ``prepared`` gradient evaluations are spent before the first
    step, on a teacher or on pretraining; the schedule spans the rest. ``evaluate_every`` spaces the points of the
    learning curve; ``test`` asks for the test metric at the end. ``snapshot`` holds the parameters and state at
    ``start``, None for a fresh run. ``limit`` bounds the seconds that this stretch may take.
    """

    key: str
    strategy: Strategy
    hyper: Mapping[str, float]
    seed: int
    start: int
    stop: int
    total: int
    evaluate_every: int
    test: bool = False
    snapshot: Mapping[str, Tensor] | None = None
    first_loss: float | None = None
    prepared: int = 0
    limit: float | None = None

    def next_event(self, t: int) -> int:
        """Returns the next step after ``t`` at which the run is evaluated: grid points and its end."""
        return min(self.stop, (t // self.evaluate_every + 1) * self.evaluate_every)


@dataclass
class Curve:
    """Points of a learning curve; ``train_loss`` is the mean minibatch loss since the point before."""

    step: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    valid_loss: list[float] = field(default_factory=list)
    valid_metric: list[float] = field(default_factory=list)

    def add(self, step: int, train_loss: float, valid_loss: float, valid_metric: float) -> None:
        """Appends one point."""
        self.step.append(step)
        self.train_loss.append(train_loss)
        self.valid_loss.append(valid_loss)
        self.valid_metric.append(valid_metric)


@dataclass
class TrialResult:
    """What became of a job: ``finished``, ``diverged`` or ``timed out``, its curve, and the state at its end."""

    key: str
    status: str
    steps: int
    curve: Curve
    first_loss: float
    test: float | None = None
    snapshot: Mapping[str, Tensor] | None = None


def diverged_before_start(job: Job) -> TrialResult:
    """Returns the result of a job that diverged in what comes before its first step."""
    return TrialResult(job.key, "diverged", job.prepared, Curve(), math.nan)


Progress = Callable[[int], None]  # told how many trial-steps were done
ResultCallback = Callable[[Sequence[TrialResult]], None]  # given results as they come; may drop their snapshots


def ignore_results(results: Sequence[TrialResult]) -> None:
    """Leaves the results to the end."""


class Engine(Protocol):
    """Runs jobs; the order of the results is the order of the jobs.

    Results that come together were trained together: the jobs that are left, given again in their order, have the
    results that they would have had, bit for bit.
    """

    name: str

    def run(
        self, jobs: Sequence[Job], progress: Progress, on_results: ResultCallback = ignore_results
    ) -> list[TrialResult]:
        """Trains every job to its end."""
        ...


class TaskContext:
    """What all engines share about a task on a device: data, layout, starts, batches, evaluation.

    ``decay`` says to what all strategies apply weight decay; ``decayed`` ``(n,)`` is 1 for those parameters.
    """

    def __init__(self, task: Task, data: Data, device: torch.device, decay: Decay = "all") -> None:
        self.task, self.decay = task, decay
        self.device = device
        self.data = Data(*(tensor.to(device) for tensor in data))
        self._versions = self._versions_now()
        self.model = self.fresh_model("default", 0)
        self.layout = Layout.of_model(self.model)
        self.sign = -1.0 if task.direction == "max" else 1.0
        named = dict(self.model.named_parameters())
        has_decay = {name: torch.full_like(named[name], decay == "all" or is_weight(named[name])) for name in named}
        self.decayed = self.layout.flatten({name: has_decay[name].detach() for name in self.layout.names})
        self._starts: dict[tuple[str, int], Tensor] = {}
        self._orders: dict[int, _Order] = {}
        self._cache: dict[tuple[Any, ...], Any] = {}

    def fresh_model(self, scheme: str, seed: int) -> nn.Module:
        """Returns the model as initialized by the scheme under the seed, drawn on the CPU, on the device."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "model"))
            model = build_model(self.task)
        if scheme != "default" or isinstance(self.task.model, nn.Module):
            batch = self.data.train_x[: self.task.batch_size].to("cpu")
            name, gain = INITIALIZATIONS.get(scheme, (scheme, None))
            initialize(model, name, generator(seed, "initialization"), gain=gain, batch=batch)
        return model.to(self.device)

    def start(self, scheme: str, seed: int) -> Tensor:
        """Returns the flat initial parameters ``(n,)``: the same for every strategy of that scheme and seed."""
        key = (scheme, seed)
        if key not in self._starts:
            named = dict(self.fresh_model(scheme, seed).named_parameters())
            self._starts[key] = self.layout.flatten({name: named[name].detach() for name in self.layout.names})
        return self._starts[key]

    def beginning(self, model: nn.Module) -> dict[str, Tensor]:
        """Returns the snapshot of a run that begins where the model is, with no step taken."""
        named = dict(model.named_parameters())
        params = self.layout.flatten({name: named[name].detach() for name in self.layout.names})
        return {"params": params.cpu(), **{f"buffer.{n}": b.detach().cpu().clone() for n, b in model.named_buffers()}}

    def begin(self, model: nn.Module, snapshot: Mapping[str, Tensor]) -> None:
        """Puts the model where :meth:`beginning` found it."""
        named = dict(model.named_parameters())
        with torch.no_grad():
            require("the start", snapshot["params"], (self.layout.size,))
            for name, value in self.layout.unflatten(snapshot["params"]).items():
                named[name].copy_(value)
            for name, buffer in model.named_buffers():
                buffer.copy_(taken(snapshot, f"buffer.{name}", buffer))

    def cached(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Returns the value cached under a key, which is made where there is none yet."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def cache(self, key: tuple[Any, ...], value: Any, most: int) -> None:
        """Caches a value under a key; of keys of that kind only the ``most`` last used stay."""
        self._cache.pop(key, None)
        self._cache[key] = value
        alike = [other for other in self._cache if other[0] == key[0]]
        for other in alike[: max(0, len(alike) - most)]:
            del self._cache[other]

    def batches(self, seed: int, start: int, stop: int) -> Tensor:
        """Returns row numbers ``(stop - start, batch)`` of the minibatches: the same for every strategy."""
        if seed not in self._orders:
            self._orders[seed] = _Order(seed, len(self.data.train_x), self.task.batch_size)
        return self._orders[seed].rows(start, stop).to(self.device)

    def usual_loss(self) -> float:
        """Returns the mean |loss| of single outputs of the untrained model by other examples' targets, 0 without one.

        A batch's loss may be about zero by chance, or since the model has learned its targets; this one is not.
        """
        return float(self.cached(("usual loss",), self._usual_loss))

    @torch.no_grad()
    def _usual_loss(self) -> float:
        model, count = self.fresh_model("default", 0).eval(), min(16, len(self.data.train_x))
        try:
            output, target = model(self.data.train_x[:count]), self.data.train_y[:count].roll(1, 0)
            found = [abs(float(self.task.loss(output[i : i + 1], target[i : i + 1]))) for i in range(count)]
        except Exception:  # a loss that takes whole batches, say
            return 0.0
        return sum(found) / count if all(map(math.isfinite, found)) else 0.0

    def check_data(self) -> None:
        """Raises TaskError where the data are no longer those that all trials are to be given."""
        if self._versions_now() != self._versions:
            raise TaskError(
                "the model, the loss or the metric has written into the data that all trials share: compute anew there "
                "(x = x / 255 in place of x /= 255), and begin the study again"
            )

    def _versions_now(self) -> list[int]:
        return [write_count(tensor) for tensor in self.data]

    def score(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (loss, metric) of one model's output."""
        return self.task.loss(output, target), self.task.score(output, target)


class _Order:
    """Row numbers of the minibatches of one seed: a new permutation each epoch, the short last batch dropped."""

    def __init__(self, seed: int, rows: int, batch: int) -> None:
        self.seed, self.count, self.batch = seed, rows, batch
        self.per_epoch = rows // batch
        self.epochs: dict[int, Tensor] = {}

    def epoch(self, number: int) -> Tensor:
        if number not in self.epochs:
            if len(self.epochs) > 64:
                self.epochs.clear()
            order = torch.randperm(self.count, generator=generator(self.seed, "order", number))
            self.epochs[number] = order[: self.per_epoch * self.batch].view(self.per_epoch, self.batch)
        return self.epochs[number]

    def rows(self, start: int, stop: int) -> Tensor:
        pieces = []
        while start < stop:
            number, offset = divmod(start, self.per_epoch)
            piece = self.epoch(number)[offset : offset + stop - start]
            pieces.append(piece)
            start += len(piece)
        return torch.cat(pieces)


def coefficient_table(job: Job, start: int, stop: int) -> Tensor:
    """Returns the coefficients of the rule from ``start`` to ``stop`` in the run as float64 ``(stop - start, c)``.

    Columns follow :func:`coefficient_names`. Any stretch of a run sees the same numbers.
    """
    s = job.strategy
    assert s.rule is not None
    spent = job.prepared
    hyper = tuple(s.stepping(job.hyper).items())
    return _whole_table(s.rule, hyper, s.schedule, s.averaging, job.total - spent)[start - spent : stop - spent]


@lru_cache(maxsize=512)
def _whole_table(
    rule: Rule, hyper: tuple[tuple[str, float], ...], schedule: Schedule, averaging: str, total: int
) -> Tensor:
    times = torch.arange(1, total + 1, dtype=torch.float64)
    average = averaging_of(averaging, total)
    weights = [] if average is None else [average.weight(times)[:, None]]
    return torch.cat([_rules_table(rule, hyper, schedule, times), *weights], dim=1)


def _rules_table(rule: Rule, hyper: tuple[tuple[str, float], ...], schedule: Schedule, times: Tensor) -> Tensor:
    total = len(times)
    settings, factors = dict(hyper), _factors(schedule, total)
    if rule.scalar_state:  # such a rule is walked step by step
        rows, scalars = [], dict(rule.scalar_state)
        for t, factor in enumerate(factors.tolist(), start=1):
            c, scalars = scalars_of_step(rule, {**settings, "lr": settings["lr"] * factor}, t, scalars)
            rows.append(list(c.values()))
        return torch.tensor(rows, dtype=torch.float64)
    c, _ = scalars_of_step(rule, {**settings, "lr": settings["lr"] * factors}, times, {})
    return torch.stack([torch.as_tensor(v, dtype=torch.float64).expand_as(times) for v in c.values()], dim=1)


@lru_cache(maxsize=64)
def _factors(schedule: Schedule, total: int) -> Tensor:
    return torch.tensor([schedule(t, total) for t in range(total)], dtype=torch.float64)


def coefficient_names(job: Job) -> list[str]:
    """Returns the names of the table's columns: the rule's, and the average's weight where there is one."""
    rule = job.strategy.rule
    assert rule is not None
    own = list(scalars_of_step(rule, job.hyper, 1, dict(rule.scalar_state))[0])
    return own if job.strategy.averaging == "none" else [*own, AVERAGE]
