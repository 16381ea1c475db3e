"""The loop: stages in order, each from where the one before left the model."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import nn
from torch.distributed import ProcessGroup

from thalweg.stages.stage import Stage
from thalweg.tensors.compiling import wait_for
from thalweg.tensors.draws import own_draws
from thalweg.tensors.files import FileError
from thalweg.tensors.renamed import former_keywords
from thalweg.tensors.seeds import derive_seed
from thalweg.training import checkpoint as checkpoints
from thalweg.training.checkpoint import CheckpointError
from thalweg.training.history import History, Row
from thalweg.training.part import only
from thalweg.training.ranks import Ranks
from thalweg.training.run import StageRun, copied
from thalweg.training.sharded_state import is_sharded, whole


class TrainingCallback(Protocol):
    """What is called while a model trains."""

    def stage(self, name: str, done: int, total: int) -> None:
        """A stage begins or is resumed: ``done`` of its ``total`` steps are taken."""
        ...

    def advance(self) -> None:
        """A step was taken."""
        ...

    def row(self, row: Row) -> None:
        """The history has a new row."""
        ...


@former_keywords({"watch": "callback"})
def train(
    model: nn.Module,
    stages: Sequence[Stage],
    *,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    callback: TrainingCallback | None = None,
    process_group: ProcessGroup | None = None,
) -> History:
    """Trains a model in place, stage by stage.

    Each stage draws from its own stream of the seed (dropout, shuffling, workers, augmentation by torch, NumPy or
    Python), and all global sources are put back at the end. A checkpoint holds the model, the optimizer, the place in
    the data, every source of randomness, averages, and the best parameters so far. A run that goes on from it ends as
    one that was never cut off, bit for bit where the machine's kernels are deterministic.

    To go back into an epoch, a loader without a ``state_dict`` of its own is drawn again up to its place.

    **Over several ranks** each step is that of one process on the same batch, to rounding. All ranks draw it alike and
    each takes its rows, unless a sampler with ``num_replicas`` and ``rank`` gives each its own; loss and gradient are
    means over the whole batch, however it divides. The model is wrapped for it, or you shard it (``fully_shard``).
    Batch norm has to be synchronized. What ``validate`` gives is averaged over ranks, so that each may see all of the
    data or an equal share. Dropout is drawn by each rank from a stream of its own. The first rank writes checkpoints,
    from which as many ranks go on bit for bit, and other numbers of them to rounding.

    Arguments:
        model: any module, on any device, to which batches are moved.
        stages: at least one; see :class:`~thalweg.stages.Stage`.
        seed: root of every draw.
        checkpoint: file to write, atomically; none by default.
        checkpoint_every: steps between checkpoints; with each row of the history by default.
        resume: go on from the checkpoint where there is one, with the same stages and seed. A run that had ended
            gives its model and history back at once.
        callback: is called at the start of each stage, after each step and for each row of the history.
        process_group: the ranks that train the model together, such as ``torch.distributed.group.WORLD``; all call with
            the same arguments.

    Returns:
        The :class:`~thalweg.training.History`, of all sittings.

    Raises:
        ValueError: no stages, one that cannot be run; the loss is not finite (:class:`Diverged`).
        CheckpointError: the file holds a run and ``resume`` is False; a checkpoint that is damaged or of another run
            or model, or that some ranks do not see. Nothing is changed then.

    >>> import torch
    >>> from functools import partial
    >>> from thalweg import optim
    >>> from thalweg.stages import Batches, Stage, supervised
    >>> x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    >>> model = nn.Linear(3, 1)
    >>> stage = Stage(objective=supervised(nn.functional.mse_loss), data=Batches(x, x[:, :1], batch_size=16),
    ...               optimizer=partial(optim.Adam, lr=0.1), steps=200)
    >>> history = train(model, [stage])
    >>> history.rows[-1]["train_loss"] < 1e-3
    True

    Source: Deep Learning, §8.1.3 and §8.7.4.
    """
    path = None if checkpoint is None else Path(checkpoint)
    run = checkpoints.outline(stages, seed)
    if not stages:
        raise ValueError("there are no stages: give at least one")
    if stages[0].optimizer is None:
        raise ValueError(f"stage {stages[0].name!r} is the first and has no optimizer: give it one")
    if checkpoint_every is not None and (path is None or checkpoint_every < 1):
        raise ValueError(f"checkpoint_every is {checkpoint_every}: give at least 1, and checkpoint= to write to")
    kept: dict[str, Any] = {"stage": 0, "run": None, "optimizer": None, "rows": [], "seconds": 0.0}
    before = None
    device = next(model.parameters()).device
    ranks, sharded = Ranks(process_group, device), is_sharded(model)
    if path is not None and _seen(path, ranks):
        if not resume:
            raise CheckpointError(f"{path} contains a run: resume it, or choose another checkpoint")
        kept, before = checkpoints.load(path, run, model), copied(model.state_dict())
        model.load_state_dict(kept["model"])
    history, carried = History(list(kept["rows"])), kept["optimizer"]
    began = time.perf_counter() - kept["seconds"]

    def save(stage: int, **state: Any) -> None:
        if path is not None:
            seconds = time.perf_counter() - began
            all_of_it = {
                "run": None,
                "optimizer": None,
                "stage": stage,
                "model": model.state_dict(),
                "rows": history.rows,
                "seconds": seconds,
                "sharded": sharded,
                **state,
            }
            _written(path, run, whole(all_of_it, ranks.first) if sharded else all_of_it, ranks)

    for index in range(kept["stage"], len(stages)):
        stage = stages[index]
        factory = next(s.optimizer for s in stages[index::-1] if s.optimizer is not None)
        with own_draws(derive_seed(seed, "stage", index)), only(model, stage.trainable) as still:
            try:
                here = StageRun(model, stage, factory, still, ranks)
                if kept["run"] is not None:
                    here.load_state_dict(kept["run"])
                elif stage.optimizer is None:
                    here.stepper.carry(carried)
            except Exception:
                if before is not None:
                    model.load_state_dict(before)
                raise
            kept["run"] = before = None
            if callback:
                callback.stage(stage.name, here.step, here.total)
            while here.step < here.total and not here.ended:
                here.advance()
                if callback:
                    callback.advance()
                if due := here.due():
                    wait_for(device)
                    history.rows.append(here.look(time.perf_counter() - began))
                    if callback:
                        callback.row(history.rows[-1])
                if path is not None and (due if checkpoint_every is None else here.step % checkpoint_every == 0):
                    here.check_finite()
                    save(index, run=here.state_dict())
            here.finish()
            carried = here.stepper.optimizer.state_dict()
        goes_on = index + 1 < len(stages) and stages[index + 1].optimizer is None
        save(index + 1, optimizer=carried if goes_on else None)
    return history


def _seen(path: Path, ranks: Ranks) -> bool:
    """Returns whether there is a checkpoint; raises CheckpointError where ranks do not see the same."""
    least, most = ranks.least(int(path.exists())), -ranks.least(-int(path.exists()))
    if least != most:
        raise CheckpointError(
            f"{path} exists for some ranks but not for others: put it on storage that all of them share"
        )
    return bool(least)


def _written(path: Path, run: dict[str, Any], state: dict[str, Any], ranks: Ranks) -> None:
    """Has the first rank write a checkpoint; where it cannot, all raise FileError."""
    error: FileError | None = None
    try:
        if ranks.first:
            checkpoints.save(path, run, state)
    except FileError as caught:
        error = caught
    if ranks.least(int(error is None)) == 0:
        raise error or FileError(f"the first rank cannot write {path}")
