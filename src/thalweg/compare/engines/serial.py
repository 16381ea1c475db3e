"""One trial at a time: any model, any optimizer."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.compare.engines.job import Curve, Job, Outcome, Progress, Workshop, coefficient_names, coefficient_table
from thalweg.compare.engines.kernels import Kernel, update_kernel
from thalweg.compare.engines.watch import first_divergence
from thalweg.compare.strategy import Strategy
from thalweg.optim import AdamW
from thalweg.rules.rule import Rule
from thalweg.tensors import derive_seed

COMPILE_ABOVE = 200_000  # parameters; below, a compiled update saves less than its second of compiling costs


class Serial:
    """Trains jobs one after another.

    A rule steps flat memory: the model's parameters and gradients are views of one vector each, so that a
    step is one kernel. An optimizer made by a factory is driven as its user would.
    """

    name = "serial"

    def __init__(self, workshop: Workshop, threads: int | None = None) -> None:
        self.shop, self.threads = workshop, threads or torch.get_num_threads()
        self._kernels: dict[tuple[Rule, tuple[str, ...]], Kernel] = {}

    def run(self, jobs: Sequence[Job], progress: Progress) -> list[Outcome]:
        """Trains every job to its end."""
        with _threads(self.threads):
            return [self._train(job, progress) for job in jobs]

    def settle_threads(self, job: Job) -> None:
        """Chooses one thread or all of them, whichever trains the job faster: small models gain nothing from two."""
        if self.threads > 1 and self.shop.device.type == "cpu":
            alone = Serial(self.shop, 1)
            if alone.seconds_per_step(job, 0.1, 100) < self.seconds_per_step(job, 0.1, 100):
                self.threads = 1

    def seconds_per_step(self, job: Job, budget: float = 0.3, most: int = 300) -> float:
        """Returns the median seconds of a training step of the job, run alone, after a warm-up."""
        run = self._open(job)
        rows = self.shop.batches(job.seed, 0, most)
        seconds: list[float] = []
        with _threads(self.threads):
            began = time.perf_counter()
            for i in range(min(most, job.total)):
                at = time.perf_counter()
                run.step(rows[i], i)
                seconds.append(time.perf_counter() - at)
                if time.perf_counter() - began > budget and i >= 10:
                    break
        return sorted(seconds[len(seconds) // 5 :])[len(seconds[len(seconds) // 5 :]) // 2]

    def _open(self, job: Job) -> "_RuleRun | _FactoryRun":
        if job.strategy.rule is None:
            return _FactoryRun(self.shop, job)
        return _RuleRun(self.shop, job, self._kernel(job))

    def _kernel(self, job: Job) -> Kernel:
        assert job.strategy.rule is not None
        names = tuple(coefficient_names(job.strategy.rule, job.hyper))
        key = (job.strategy.rule, names)
        if key not in self._kernels:
            self._kernels[key] = update_kernel(
                job.strategy.rule, names, self.shop.device, self.shop.layout.size > COMPILE_ABOVE
            )
        return self._kernels[key]

    def _train(self, job: Job, progress: Progress) -> Outcome:
        shop, run, curve = self.shop, self._open(job), Curve()
        first, t = job.first_loss, job.start
        while t < job.stop:
            end = job.next_event(t)
            rows = shop.batches(job.seed, t, end)
            run.prepare(t, end)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive_seed(job.seed, "noise", t))
                run.model.train()
                losses = torch.stack([run.step(rows[i], t + i) for i in range(end - t)])
            progress(end - t)
            first = float(losses[0]) if first is None else first
            bad = first_divergence(losses[:, None], torch.tensor([first], device=losses.device))[0]
            if bad is not None:
                return Outcome(job.key, "diverged", t + bad + 1, curve, first)
            t = end
            loss, metric = self._evaluate(run.model, shop.data.valid_x, shop.data.valid_y)
            curve.add(t, float(losses.mean()), loss, metric)
        assert first is not None
        test = self._evaluate(run.model, shop.data.test_x, shop.data.test_y)[1] if job.test else None
        return Outcome(job.key, "finished", t, curve, first, test, run.snapshot())

    def untrained_test(self, scheme: str, seed: int) -> float:
        """Returns the test metric of the model before any step."""
        return self._evaluate(self.shop.fresh_model(scheme, seed), self.shop.data.test_x, self.shop.data.test_y)[1]

    def _evaluate(self, model: nn.Module, x: Tensor, y: Tensor, chunk: int = 4096) -> tuple[float, float]:
        model.eval()
        with torch.no_grad():
            output = torch.cat([model(x[i : i + chunk]) for i in range(0, len(x), chunk)])
            loss, metric = self.shop.score(output, y)
        return float(loss), float(metric)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Runs its body with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _RuleRun:
    """A model whose parameters and gradients are views of flat vectors ``(1, n)``, stepped by a rule."""

    def __init__(self, shop: Workshop, job: Job, kernel: Kernel) -> None:
        assert job.strategy.rule is not None
        self.shop, self.job, self.kernel, self.rule = shop, job, kernel, job.strategy.rule
        self.model = shop.fresh_model(job.strategy.initialization, job.seed)
        snapshot = job.snapshot or {}
        start = shop.start(job.strategy.initialization, job.seed) if job.snapshot is None else snapshot["params"]
        self.flat = start.to(shop.device, copy=True)[None]
        self.grads = torch.zeros_like(self.flat)
        self.buffers = [
            snapshot[slot].to(shop.device, copy=True)[None] if slot in snapshot else torch.full_like(self.flat, initial)
            for slot, initial in self.rule.buffers.items()
        ]
        values, grads = shop.layout.unflatten(self.flat[0]), shop.layout.unflatten(self.grads[0])
        for name, parameter in self.model.named_parameters():
            if name in values:
                parameter.data, parameter.grad = values[name], grads[name]
        for name, buffer in self.model.named_buffers():
            if f"buffer.{name}" in snapshot:
                buffer.copy_(snapshot[f"buffer.{name}"])
        self.prepare(job.start, min(job.total, job.start + 300))

    def prepare(self, start: int, stop: int) -> None:
        """Computes the coefficients of steps ``start`` to ``stop``."""
        self.offset, self.table = start, coefficient_table(self.rule, self.job, start, stop).to(self.flat)

    def step(self, rows: Tensor, t: int) -> Tensor:
        """Takes one training step and returns the minibatch loss."""
        self.grads.zero_()
        data = self.shop.data
        loss = self.shop.task.loss(self.model(data.train_x[rows]), data.train_y[rows])
        loss.backward()
        i = t - self.offset
        with torch.no_grad():
            self.kernel(self.flat, self.grads, self.buffers, self.table[i : i + 1])
        return loss.detach()

    def snapshot(self) -> dict[str, Tensor]:
        """Returns all that the rest of the run depends on."""
        state = {slot: buffer[0].cpu() for slot, buffer in zip(self.rule.buffers, self.buffers, strict=True)}
        buffers = {f"buffer.{name}": value.cpu() for name, value in self.model.named_buffers()}
        return {"params": self.flat[0].detach().cpu(), **state, **buffers}


def make_optimizers(strategy: Strategy, model: nn.Module, hyper: Mapping[str, float]) -> list[torch.optim.Optimizer]:
    """Returns the strategy's optimizer for the model's trainable parameters.

    One that takes matrices alone, as Muon does, gets those, and AdamW at its defaults steps the rest.

    Raises:
        ValueError: the factory refuses the parameters.
    """
    assert strategy.factory is not None
    params = [p for p in model.parameters() if p.requires_grad]
    try:
        return [_checked(strategy.factory(params, **hyper))]
    except Exception as error:
        matrices, rest = [p for p in params if p.dim() == 2], [p for p in params if p.dim() != 2]
        if matrices and rest:
            try:
                return [_checked(strategy.factory(matrices, **hyper)), AdamW(rest)]
            except Exception:
                pass  # matrices are not what it asks for: the first error is the one to show
        line = (str(error).splitlines() or ["no message"])[0]
        settings = ", ".join(f"{k}={v:g}" for k, v in hyper.items())
        raise ValueError(
            f"strategy {strategy.name!r} cannot step this model with {settings} ({type(error).__name__}: {line}): "
            "write my.py:strategy, a function of the parameters that makes the optimizer"
        ) from error


def _checked(optimizer: object) -> torch.optim.Optimizer:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"it gives a {type(optimizer).__name__}, not a torch.optim.Optimizer")
    return optimizer


class _FactoryRun:
    """A model and an optimizer made by a factory, driven through the ordinary interface."""

    def __init__(self, shop: Workshop, job: Job) -> None:
        self.shop, self.job = shop, job
        self.model = shop.fresh_model(job.strategy.initialization, job.seed)
        self.optimizers = make_optimizers(job.strategy, self.model, job.hyper)
        self.base = [[group.get("lr") for group in optimizer.param_groups] for optimizer in self.optimizers]
        if job.snapshot is not None:
            self._restore(job.snapshot)

    def prepare(self, start: int, stop: int) -> None:
        """Nothing to prepare: the optimizer computes its own scalars."""

    def step(self, rows: Tensor, t: int) -> Tensor:
        """Takes one training step and returns the minibatch loss before it."""
        factor = self.job.strategy.schedule(t, self.job.total)
        for optimizer, rates in zip(self.optimizers, self.base, strict=True):
            for group, lr in zip(optimizer.param_groups, rates, strict=True):
                if lr is not None:
                    group["lr"] = lr * factor
        x, y = self.shop.data.train_x[rows], self.shop.data.train_y[rows]
        losses: list[Tensor] = []

        def closure() -> Tensor:
            self.model.zero_grad()
            loss = self.shop.task.loss(self.model(x), y)
            loss.backward()
            losses.append(loss.detach())
            return loss

        self.optimizers[0].step(closure)  # type: ignore[arg-type]
        for optimizer in self.optimizers[1:]:
            optimizer.step()
        if len(losses) != 1:
            raise ValueError(
                f"strategy {self.job.strategy.name!r} evaluated the gradient {len(losses)} times in a step: "
                "only methods of one evaluation a step can be compared at an equal budget"
            )
        return losses[0]

    def snapshot(self) -> dict[str, Tensor]:
        """Returns model and optimizer state as flat names to tensors."""
        model = {f"model.{name}": value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
        return model | {
            f"state.{which}.{index}.{name}": torch.as_tensor(value).detach().cpu().clone()
            for which, optimizer in enumerate(self.optimizers)
            for index, entries in optimizer.state_dict()["state"].items()
            for name, value in entries.items()
            if isinstance(value, (Tensor, int, float))
        }

    def _restore(self, snapshot: Mapping[str, Tensor]) -> None:
        self.model.load_state_dict({k[6:]: v for k, v in snapshot.items() if k.startswith("model.")})
        states: list[dict[int, dict[str, Any]]] = [{} for _ in self.optimizers]
        for key, value in snapshot.items():
            if key.startswith("state."):
                _, which, index, name = key.split(".", 3)
                states[int(which)].setdefault(int(index), {})[name] = value.clone()
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
