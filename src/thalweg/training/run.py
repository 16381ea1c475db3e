"""One stage in training: all that its next step depends on, stepped, looked at, kept and put back."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from numbers import Real
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.architecture import AuxiliaryHeads
from thalweg.stages.stage import Averaged, Stage, loss_of
from thalweg.tensors.draws import packed_states, restore_packed
from thalweg.tensors.vector import local
from thalweg.training.history import Row
from thalweg.training.rank_draws import RankDraws
from thalweg.training.ranks import Part, Ranks, weighted
from thalweg.training.sharded_state import reshard
from thalweg.training.stepping import Stepper
from thalweg.training.stream import Stream

OWN = {"stage", "step", "epoch", "lr", "train_loss", "seconds"}  # columns of every row


class Diverged(ValueError):
    """The training loss is no longer finite; the message is one line with the cause and the remedy."""


class StageRun:
    """One stage of a model.

    Arguments:
        model: what is trained, with the stage's part requiring gradients.
        stage: the stage.
        optimizer: the factory, the stage's own or that of an earlier one.
        still: modules that stay in eval mode.
        ranks: that train it together.

    Attributes: ``step``, steps taken; ``total``, those of the stage; ``ended``, by early stopping.
    """

    def __init__(
        self,
        model: nn.Module,
        stage: Stage,
        optimizer: Callable[[Any], Optimizer],
        still: Sequence[nn.Module],
        ranks: Ranks,
    ) -> None:
        self.model, self.stage, self.still, self.ranks = model, stage, still, ranks
        self.device = ranks.device
        _train(model, still)
        ranks.check(model, stage.objective)
        data: Any = stage.data(model) if callable(stage.data) else stage.data
        self.total = stage.total_steps(data)
        self.every = stage.evaluate_every or max(1, self.total // 20)
        self.stream = Stream(data, stage.name, self.device, ranks)
        self.stepper = Stepper(model, optimizer, stage.rates)
        if ranks.size > 1 and self.stepper.wants_curvature:
            kind = type(self.stepper.optimizer).__name__
            raise ValueError(
                f"stage {stage.name!r}: {kind} multiplies by the curvature, which is not averaged over ranks: use "
                "LBFGS or ConjugateGradient, or one process"
            )
        self.objective = ranks.joined(model, stage.objective)
        self.draws = RankDraws(ranks)
        within: Any = getattr(self.stepper.optimizer, "average", None)  # one that its step updates
        if within is not None and stage.average:
            raise ValueError(
                f"stage {stage.name!r} averages twice, because its optimizer averages too: remove one of the two "
                "averages"
            )
        self.average: Averaged | None = stage.average(model) if stage.average else within
        self.heads = [module for module in model.modules() if isinstance(module, AuxiliaryHeads)]
        self.step, self.ended = 0, False
        self.losses: list[Tensor] = []  # of this rank in steps since the last row, one or more an entry
        self.known = torch.zeros(0)  # those before them, the mean of all ranks
        self.best: dict[str, Any] = {"value": None, "waited": 0, "model": None}

    def advance(self) -> None:
        """Takes one step."""
        parts = self.stream.take(self.stage.accumulate, self.step)
        if self.stage.schedule is not None:
            factor = self.stage.schedule(self.step, self.total)
            if not isinstance(factor, (Real, Tensor)) or not factor >= 0:
                raise ValueError(
                    f"stage {self.stage.name!r}: the schedule gives {factor!r:.200} at step {self.step}: return a "
                    "factor "
                    "of 0 or more"
                )
            self.stepper.scale_rates(factor)
        evaluate = self._whole if self.stepper.wants_graph and self.ranks.size == 1 else self._pass
        self.losses.append(self.stepper.step(lambda: evaluate(parts)))
        for heads in self.heads:
            heads.advance()
        if self.average is not None and self.stage.average is not None:
            self.average.update()
        if len(self.losses) >= 1024:
            self._series()
        self.step += 1

    def _pass(self, parts: Sequence[Part]) -> Tensor:
        """Returns the mean loss of the batches, and leaves its gradient, that of all ranks.

        Where the optimizer decides by it the loss is that of all ranks, otherwise it is what this one adds to it.
        """
        total: Tensor | None = None
        for part in parts:
            loss = weighted(loss_of(self._evaluate(part.batch)), part.weight)
            if len(parts) > 1:
                loss = loss / len(parts)
            loss.backward()
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None
        return self.ranks.mean(total) if self.stepper.several else total

    def _whole(self, parts: Sequence[Part]) -> Any:
        """Returns the mean loss of the batches with its graph, and of a single one the output, for curvature."""
        values = [self._evaluate(part.batch) for part in parts]
        if len(values) == 1:
            return values[0]
        return torch.stack([loss_of(value).reshape(()) for value in values]).mean()

    def _evaluate(self, batch: Any) -> Any:
        precision = self.stage.precision
        if precision is None and self.ranks.size == 1:  # most often, and quicker without contexts
            return self.objective(batch, self.step)
        cast = nullcontext() if precision is None else torch.autocast(self.device.type, precision)
        with self.draws.drawing(), cast:
            return self.objective(batch, self.step)

    def due(self) -> bool:
        """Returns whether a row is due."""
        return self.step % self.every == 0 or self.step == self.total

    def _series(self) -> Tensor:
        """Returns the losses since the last row ``(n,)``, the means of all ranks; all of them have to call."""
        if self.losses:
            own = self.ranks.mean(torch.cat([loss.reshape(-1) for loss in self.losses]))
            self.known, self.losses = torch.cat([self.known.to(own), own]), []
        return self.known

    def mean_loss(self) -> float:
        """Returns the mean training loss since the last row, 0 where there was no step.

        Raises:
            Diverged: it is not finite.
        """
        losses = self._series().tolist()
        mean = sum(losses) / max(len(losses), 1)
        if not math.isfinite(mean):
            self._diverged(f"the training loss is {mean} in steps {self.step - len(losses) + 1} to {self.step}")
        return mean

    def check_finite(self) -> None:
        """Raises Diverged where the loss or a parameter is not finite: such a model is not worth keeping."""
        self.mean_loss()
        named = list(self.model.named_parameters())
        bad = next((i for i, (_, p) in enumerate(named) if not bool(torch.isfinite(local(p)).all())), len(named))
        if (bad := self.ranks.least(bad)) < len(named):
            self._diverged(f"{named[bad][0]} is not finite after step {self.step}")

    def _diverged(self, what: str) -> NoReturn:
        raise Diverged(
            f"stage {self.stage.name!r}: {what}: lower the learning rate, use warm-up, or correct the inputs"
        )

    def look(self, seconds: float) -> Row:
        """Returns the history's next row, and judges by it whether the stage ends; may raise :class:`Diverged`."""
        loss = self.mean_loss()
        self.known = torch.zeros(0)
        epoch = self.stream.epoch + (self.stream.position > 0)
        row: Row = {"stage": self.stage.name, "step": self.step, "epoch": epoch}
        if (rate := self.stepper.rate) is not None:
            row["lr"] = rate
        row["train_loss"] = loss
        if self.stage.validate is not None:
            row |= self._validate(self.stage.validate)
        self._judge(row)
        return row | {"seconds": seconds}

    def finish(self) -> None:
        """Leaves the model at its best or at its average, where the stage asks for that."""
        if self.best["model"] is not None:
            self.model.load_state_dict(self.best["model"])
        elif self.average is not None:
            self.model.load_state_dict(self.average.values())

    def _validate(self, validate: Callable[[Any], Mapping[str, float]]) -> dict[str, float]:
        before = packed_states()
        try:
            self.model.eval()
            with self.average.applied() if self.average is not None else nullcontext(), torch.no_grad():
                given = validate(self.model)
                if not isinstance(given, Mapping) or OWN & set(given):
                    raise ValueError(
                        f"stage {self.stage.name!r}: validate returns {given!r:.200}: return a mapping of names to "
                        f"numbers, none of them called {', '.join(sorted(OWN))}, which a row has already"
                    )
                found = {name: float(value) for name, value in given.items()}
                means = self.ranks.mean(torch.tensor(list(found.values()), dtype=torch.float64))
                return dict(zip(found, means.tolist(), strict=True))
        finally:
            restore_packed(before)
            _train(self.model, self.still)
            reshard(self.model)

    def _judge(self, row: Row) -> None:
        rule = self.stage.early_stopping
        if rule is None:
            return
        if rule.metric not in row:
            raise ValueError(
                f"stage {self.stage.name!r} stops early by {rule.metric!r}, which no row has: choose among "
                f"{', '.join(name for name, value in row.items() if isinstance(value, float))}, or validate it"
            )
        if rule.improves(row[rule.metric], self.best["value"]):
            state = self.average.values() if self.average is not None else copied(self.model.state_dict())
            self.best = {"value": row[rule.metric], "waited": 0, "model": state}
        else:
            self.best["waited"] += 1
            self.ended = self.best["waited"] >= rule.patience

    def state_dict(self) -> dict[str, Any]:
        """Returns all that the rest of the stage depends on, but for the model."""
        objective: Any = self.stage.objective
        return {
            "step": self.step,
            "ended": self.ended,
            "stream": self.stream.state_dict(),
            "stepper": self.stepper.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "objective": objective.state_dict() if hasattr(objective, "state_dict") else None,
            "losses": self._series(),
            "best": self.best,
            "draws": packed_states(),
            "ranks": self.draws.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state; may raise :class:`CheckpointError`."""
        objective: Any = self.stage.objective
        self.stepper.load_state_dict(state["stepper"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if hasattr(objective, "load_state_dict"):
            objective.load_state_dict(state["objective"])
        self.known, self.losses = state["losses"], []
        self.step, self.ended, self.best = state["step"], state["ended"], state["best"]
        self.stream.load_state_dict(state["stream"], self.stage.accumulate)
        restore_packed(state["draws"])
        self.draws.load(state.get("ranks"), self.step)


def _train(model: nn.Module, still: Sequence[nn.Module]) -> None:
    model.train()
    for module in still:
        module.eval()


def copied(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a state dict with tensors of its own."""
    return {name: v.detach().clone() if isinstance(v, Tensor) else v for name, v in state.items()}
