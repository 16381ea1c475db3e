"""An optimizer made by a factory, driven as its user would: through closure, groups and state dicts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.averaging import Average
from thalweg.compare.engines.job import Job, Workshop
from thalweg.compare.engines.step_run import StepRun
from thalweg.compare.strategy import Strategy
from thalweg.compare.variants import averaging_of
from thalweg.optim import AdamW


def make_optimizers(strategy: Strategy, model: nn.Module, hyper: Mapping[str, float]) -> list[torch.optim.Optimizer]:
    """Returns the strategy's optimizer for the model's trainable parameters.

    One that takes matrices alone, as Muon does, gets those, and AdamW at its defaults steps the rest.

    Raises:
        ValueError: the factory refuses the parameters.
    """
    assert strategy.factory is not None
    hyper = {name: value for name, value in hyper.items() if not strategy.closure or name != "batches"}
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


class FactoryRun(StepRun):
    """A model and an optimizer made by a factory, driven through the ordinary interface."""

    def __init__(self, shop: Workshop, job: Job) -> None:
        self.shop, self.job = shop, job
        self.model = shop.fresh_model(job.strategy.initialization, job.seed)
        self.optimizers = make_optimizers(job.strategy, self.model, job.hyper)
        self.base = [[group.get("lr") for group in optimizer.param_groups] for optimizer in self.optimizers]
        averaging = averaging_of(job.strategy.averaging, job.total)
        self.average = None if averaging is None else Average(self.model, averaging, buffers="average")
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
            loss = self.shop.task.training_loss(self.model, self.model(x), y)
            loss.backward()
            losses.append(loss.detach())
            return loss

        self.optimizers[0].step(closure)  # type: ignore[arg-type]
        for optimizer in self.optimizers[1:]:
            optimizer.step()
        if self.average is not None:
            self.average.update()
        if len(losses) != 1:
            raise ValueError(
                f"strategy {self.job.strategy.name!r} evaluated the gradient {len(losses)} times in a step: "
                "give it as a thalweg.Strategy with closure=True, so that each of them is paid for"
            )
        return losses[0]

    @contextmanager
    def shown(self) -> Iterator[nn.Module]:
        """Runs its body with the average in the model, where there is one."""
        with self.average.applied() if self.average is not None else nullcontext():
            yield self.model

    def snapshot(self) -> dict[str, Tensor]:
        """Returns model, optimizer state and average as flat names to tensors."""
        found = {f"model.{name}": value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
        if self.average is not None:
            state = self.average.state_dict()
            found |= {f"{part}.{n}": t.cpu().clone() for part in ("means", "copies") for n, t in state[part].items()}
            found["step"] = torch.tensor(state["step"])
        return found | state_of(self.optimizers)

    def _restore(self, snapshot: Mapping[str, Tensor]) -> None:
        def part(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(f"{name}."): v for k, v in snapshot.items() if k.startswith(f"{name}.")}

        self.model.load_state_dict(part("model"))
        if self.average is not None:
            own = {"means": part("means"), "copies": part("copies"), "step": int(snapshot["step"])}
            self.average.load_state_dict(self.average.state_dict() | own)
        restored(self.optimizers, snapshot)


def state_of(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Returns the optimizers' states as flat names to tensors; of lists, those whose every entry is a tensor."""
    flat: dict[str, Any] = {}
    for which, optimizer in enumerate(optimizers):
        for index, entries in optimizer.state_dict()["state"].items():
            for name, value in entries.items():
                key = f"state.{which}.{index}.{name}"
                if isinstance(value, list) and all(isinstance(v, Tensor) for v in value):
                    flat |= {f"{key}.{i}": v for i, v in enumerate(value)} if value else {f"{key}.": torch.zeros(0)}
                elif isinstance(value, (Tensor, int, float)):
                    flat[key] = value
    return {key: torch.as_tensor(value).detach().cpu().clone() for key, value in flat.items()}


def restored(optimizers: Sequence[torch.optim.Optimizer], snapshot: Mapping[str, Tensor]) -> None:
    """Puts back what :func:`state_of` returned."""
    states: list[dict[int, dict[str, Any]]] = [{} for _ in optimizers]
    for key, value in snapshot.items():
        if key.startswith("state."):
            _, which, index, name, *place = key.split(".")
            entries = states[int(which)].setdefault(int(index), {})
            if not place:
                entries[name] = value.clone()
            else:
                entries.setdefault(name, []).extend([value.clone()] if place[0] else [])
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
