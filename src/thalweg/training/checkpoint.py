"""Checkpoints: a run of stages as it stands between two steps, in one file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from thalweg.stages.stage import Stage
from thalweg.tensors.files import FileError, read_safely, write_whole
from thalweg.training.sharded_state import divided, is_sharded, joined

FORMAT, VERSION = "thalweg training", 1


class CheckpointError(FileError):
    """A checkpoint that cannot be gone on from; the message is one line with the cause and the remedy."""


def outline(stages: Sequence[Stage], seed: int) -> dict[str, Any]:
    """Returns what a run is recognised by: its seed, and the names and budgets of its stages."""
    return {"seed": seed, "stages": [[s.name, s.steps, s.epochs, s.accumulate] for s in stages]}


def save(path: Path, run: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Writes a checkpoint in the place of the one before, at once."""
    write_whole({"format": FORMAT, "version": VERSION, "outline": dict(run), **state}, path)


def load(path: Path, run: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Returns a checkpoint of this run, whose model fits; the model is not touched.

    Tensors that were sharded are divided as the model is now; all of its ranks have to call.

    Raises:
        CheckpointError: no checkpoint, of another version, run or model, with the first difference named; one of whole
            tensors for a model that is sharded.
    """
    try:
        state = read_safely(path)
    except FileError as error:
        raise CheckpointError(f"cannot resume: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"cannot resume: {path} is not a checkpoint of a training run: choose another file")
    if state.get("version") == VERSION and not all(isinstance(state.get(k), dict) for k in ("outline", "model")):
        raise CheckpointError(f"cannot resume: {path} lacks a part of a checkpoint: choose another file")
    if state.get("version") != VERSION:
        raise CheckpointError(
            f"cannot resume: {path} is of version {state.get('version')}, not {VERSION}: start a new run"
        )
    if state["outline"] != dict(run):
        saved, asked = state["outline"], dict(run)
        key = next(key for key in (*asked, *saved) if saved.get(key) != asked.get(key))
        raise CheckpointError(
            f"cannot resume: {path} is of another run, its {key} {saved.get(key)}, not {asked.get(key)}: resume "
            "with the same, or start a new run elsewhere"
        )
    here, there = _forms(model.state_dict()), _forms(joined(state["model"]))
    for name in [*here, *there]:
        if here.get(name) != there.get(name):
            raise CheckpointError(
                f"cannot resume: {path} is of another model, with {there.get(name, 'no')} {name!r}, "
                f"not {here.get(name, 'none')}"
            )
    if is_sharded(model) and not state.get("sharded"):
        raise CheckpointError(f"cannot resume: {path} is of a model that was not sharded: resume without sharding it")
    return divided(state, model) if state.get("sharded") else state


def _forms(state: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: f"{str(v.dtype).removeprefix('torch.')} {tuple(v.shape)}" if isinstance(v, Tensor) else type(v).__name__
        for name, v in state.items()
    }
