"""What a training loop of the user's own is given: optimizer, batches, and where it reports."""

import numbers
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.compare.execution.cannot_run import changes_its_rate
from thalweg.compare.execution.divergence import LoopDiverged, first_divergence, shuffle
from thalweg.compare.execution.guidance import repeated
from thalweg.compare.execution.job import Job
from thalweg.compare.execution.loop.batches import likeness, split_for
from thalweg.compare.execution.loop.state import LoopState
from thalweg.compare.execution.loop.watched import watch
from thalweg.compare.execution.optimizers import groups_for, make_optimizers, members, one_of, set_mode
from thalweg.compare.storage.result import Curve
from thalweg.compare.task.grouping import Grouping
from thalweg.compare.user_errors import TaskError
from thalweg.optim.decay import Decay


class Run:
    """One run of a training loop of your own, which :func:`thalweg.compare` hands to it.

    The loop asks the run for its optimizer and its batches, tells it the losses, and reports when that is due. The run
    counts a gradient evaluation a batch, ends the loop when its budget is spent, and goes on with it later, in a new
    call of the loop, where it was: what is registered has its state saved and restored.

    Attributes:
        seed: the seed of the run; torch's, NumPy's and Python's global generators are seeded by it.
        device: on which the batches are.
        steps: batches of a complete run.
        step: batches that the run has had, those before it was interrupted included.
        hyperparameters: of the strategy, by name.

    >>> def train(run):
    ...     model = nn.Linear(3, 1)
    ...     optimizer = run.optimizer(model)
    ...     data = torch.utils.data.TensorDataset(torch.ones(8, 3), torch.ones(8, 1))
    ...     for x, y in run.batches(torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)):
    ...         loss = nn.functional.mse_loss(model(x), y)
    ...         optimizer.zero_grad()
    ...         loss.backward()
    ...         optimizer.step()
    ...         run.loss(loss)
    ...         if run.due:
    ...             run.report(valid={"loss": float(loss)})
    ...     run.report(test={"loss": float(loss)})

    Source: Deep Learning, §8.1.3.
    """

    def __init__(
        self,
        job: Job,
        device: torch.device,
        decay: Decay,
        metric: str | None = None,
        usual: float = 0.0,
        is_shuffled: bool = False,
        grouping: Grouping = Grouping(),  # noqa: B008, it is frozen
    ) -> None:
        self._job, self._decay, self.metric, self._usual, self.largest_loss = job, decay, metric, usual, 0.0
        self.seed, self.device, self.steps, self.step = job.seed, device, job.total, job.start
        self.hyperparameters: Mapping[str, float] = dict(job.hyper)
        self.state, self.curve, self.first_loss = LoopState(job.snapshot), Curve(), job.first_loss
        self.test: float | None = None
        self.seconds: list[float] = []
        self.diverged: int | None = None
        self._grouping, self._is_shuffled = grouping, is_shuffled  # whether models begin without what they have learned
        self.progress: Callable[[int], object] = lambda steps: None
        self._optimizer: torch.optim.Optimizer | None = None
        self._losses: list[Tensor] = []
        self._reported, self._taken, self._asked, self._stepped = True, 0, False, False
        self._data: Any = None

    def optimizer(self, params: "nn.Module | Iterable[Any]") -> torch.optim.Optimizer:
        """Returns the strategy's optimizer, whose learning rate follows the strategy's schedule.

        Arguments:
            params: a model, which is registered, too; or parameters or groups of them as torch's optimizers take them.

        Raises:
            TaskError: it was asked for before, or parameters without names are to have settings of their own.
        """
        if self._optimizer is not None:
            raise TaskError("the loop calls run.optimizer twice: call it once, with all parameters or groups")
        strategy = self._job.strategy
        if isinstance(params, nn.Module):
            self.track(model=params)
            self._grouping.freeze(params)
            made = make_optimizers(strategy, params, self._job.hyper, self._decay, self._grouping, steps=self.steps)
        elif self._grouping:
            named = ", ".join(self._grouping.described)
            raise TaskError(f"{named} name parameters of a model: call run.optimizer(model), or omit them")
        else:
            made = groups_for(strategy, params, self._job.hyper, self._decay, steps=self.steps)
        self._optimizer = one_of(made)
        self._rates = self._now = self._rates_now()
        watch(self._optimizer, self._check_rates, self._count)
        set_mode(self._members, "train")
        self.state.track(optimizer=self._optimizer)
        return self._optimizer

    def track(self, **objects: Any) -> None:
        """Registers what the run depends on beside the optimizer, so that it goes on after an interruption.

        Arguments:
            objects: by a name each; with ``state_dict()`` and ``load_state_dict()``, as models, averages and gradient
                scalers have them.

        Raises:
            TaskError: an object has no such methods, or the batches have begun.
        """
        if self._asked:
            raise TaskError("the loop calls run.track after run.batches: register everything before the first batch")
        self.state.track(**objects)

    def batches(self, data: Any) -> Iterator[Any]:
        """Yields the batches that the run has left, on the device.

        Arguments:
            data: a ``DataLoader``, whose order of batches becomes a function of the seed; an iterable of batches; or a
                function ``(seed) -> iterable of batches``. Epochs follow one another; a last short batch is left out.

        Raises:
            TaskError: there is no optimizer yet, an update or a report is missing, there are too many, or the data
                are others than before.
        """
        if self._optimizer is None:
            raise TaskError("the loop calls run.batches before run.optimizer: make the optimizer first")
        if self._asked:
            self._check_data(data)
            return  # a loop over epochs asks again when the budget is spent
        self._asked, self._data = True, data
        self._check_rates()
        self.state.restore(self.device)
        for value in self.state.objects.values() if self._is_shuffled else ():
            if isinstance(value, nn.Module):
                shuffle(value)
        self._taken = 0
        split = split_for(data).to(self.device)
        rule = self._job.strategy.rule
        count = 1 if rule is None else rule.evaluations  # gradients of one batch, each a turn of the loop
        rows = repeated(count, self.step, self._job.stop, lambda first, last: split.rows(self.seed, first, last, 0))
        split.expect(rows)
        for row in rows:
            self._begin_step()
            batch = split.batch(row)
            began = time.perf_counter()
            yield batch
            self.seconds.append(time.perf_counter() - began)
            self._end_step()
            self.state.note(self.step, not self._stepped)
        self.state.capture(not self._stepped)

    @property
    def due(self) -> bool:
        """Whether the loop is to evaluate and report after this batch; True at the end of a run, too."""
        t = self.step + 1
        is_due = self._asked and (t == self._job.stop or t % self._job.evaluate_every == 0)
        if is_due and not self._reported:
            set_mode(self._members, "eval")
        return is_due

    @property
    def has_stepped(self) -> bool:
        """Whether the loop has called ``optimizer.step()``."""
        return self._taken > 0

    @property
    def is_final(self) -> bool:
        """Whether this run is tested; where it is not, a test that takes long may be left out."""
        return self._job.test

    def loss(self, loss: Tensor) -> None:
        """Takes the loss of a batch, by which a run that diverges is ended.

        Raises:
            TaskError: it is no scalar tensor.
        """
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise TaskError(f"the loop calls run.loss with a {shape}: give the scalar tensor that is differentiated")
        self._losses.append(loss.detach().reshape(()))

    def report(self, *, valid: Any = None, test: Any = None) -> None:
        """Reports an evaluation.

        Arguments:
            valid: of the validation data, when ``run.due``: a number, or ``{name: number}``, whose first is the metric.
            test: of the test data, after the last batch.

        Raises:
            TaskError: it is no number, or the report is not due.
        """
        if valid is not None:
            if not self.due:
                raise TaskError(
                    f"the loop reports a validation result after batch {self.step + 1}, where none is due: report if "
                    "run.due"
                )
            self._add_point(self._numbers(valid))
        if test is not None:
            values = self._numbers(test)
            self.test = values[self._named(values)]

    @property
    def _members(self) -> list[torch.optim.Optimizer]:
        return [] if self._optimizer is None else members(self._optimizer)

    def _begin_step(self) -> None:
        assert self._optimizer is not None
        factor = self._job.strategy.schedule_with(self._job.hyper)(self.step, self._job.total)
        for group, lr in zip(self._optimizer.param_groups, self._rates, strict=True):
            if lr is not None and self._job.strategy.schedule_name != "constant":
                group["lr"] = lr * factor
        self._now, self._reported, self._stepped = self._rates_now(), False, False

    def _end_step(self) -> None:
        t = self.step + 1
        self._check_rates()
        if (t == self._job.stop or t % self._job.evaluate_every == 0) and not self._reported:
            raise TaskError(
                f"the loop does not report after batch {t}, where a validation result is due: write if run.due: "
                "run.report(valid=...) at the end of its body"
            )
        self.step = t
        self.progress(1)

    def _add_point(self, values: dict[str, float]) -> None:
        if not self._losses:
            raise TaskError("the loop has not called run.loss since it last reported: call run.loss(loss) each batch")
        losses, t = torch.stack(self._losses), self.step + 1
        self.first_loss = float(losses[0]) if self.first_loss is None else self.first_loss
        start = torch.tensor([self.first_loss], device=losses.device)
        self.largest_loss = max(self.largest_loss, float(losses.abs().max()))
        bad = first_divergence(losses[:, None], start, self._usual)[0]
        if bad is not None:
            raise LoopDiverged(t - len(losses) + bad + 1)
        metric = values[self._named(values)]
        self.curve.add(t, float(losses.double().mean()), values.get("loss", metric), metric)
        self._losses.clear()
        self._reported = True
        set_mode(self._members, "train")

    def _named(self, values: Mapping[str, float]) -> str:
        """Returns the name of the metric, which the first report gives where the task does not."""
        self.metric = self.metric or next(iter(values))
        if self.metric not in values:
            raise TaskError(f"the loop reports {', '.join(values)}, and no {self.metric!r}: report it each time")
        return self.metric

    def _numbers(self, reported: Any) -> dict[str, float]:
        values = dict(reported) if isinstance(reported, Mapping) else {self.metric or "metric": reported}
        for name, value in values.items():
            if not isinstance(value, (numbers.Real, Tensor)) or (isinstance(value, Tensor) and value.numel() != 1):
                raise TaskError(f"the loop reports {name!r} as a {type(value).__name__}: report a number")
        if not values:
            raise TaskError("the loop reports nothing: report a number, or {name: number}")
        return {str(name): float(value) for name, value in values.items()}

    def _rates_now(self) -> list[Any]:
        assert self._optimizer is not None
        return [group.get("lr") for group in self._optimizer.param_groups]

    def _check_rates(self) -> None:
        """Raises TaskError where the loop has changed a learning rate."""
        if self._rates_now() != self._now:
            raise TaskError(
                "the loop changes the optimizer's learning rate, which follows the strategy's schedule: leave its own "
                "scheduler out, compare schedules as adam@cosine, and give run.optimizer groups with an lr each"
            )

    def _check_data(self, data: Any) -> None:
        """Raises TaskError where the data are others than those that the batches have come from."""
        if data is not self._data and likeness(data) != likeness(self._data):
            raise TaskError(
                "the loop calls run.batches with other data than before, of which it would get no batch: give it one "
                "function (seed) -> iterable of batches that yields those of both"
            )

    def _count(self) -> None:
        self._taken += 1
        if (schedule := self._job.strategy.schedule_name) != "constant" and self._rates_now() != self._now:
            raise changes_its_rate(schedule)
        self._stepped, self._now = True, self._rates_now()
        if self._asked and self._reported:
            raise TaskError(
                f"the loop calls optimizer.step() after it has reported on batch {self.step + 1}: report at the end of "
                "its body"
            )
        if self._taken > (batches := self.step - self._job.start + 1):
            raise TaskError(
                f"the loop has called optimizer.step() {self._taken} times in {batches} batches: "
                "each batch is a gradient evaluation of the budget, so step at most once for each"
            )
