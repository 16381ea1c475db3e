"""``thalweg diagnose``."""

import json
import math
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console


def command(
    task: Annotated[
        str, typer.Argument(help="A built-in task (thalweg list tasks) or your own: my.py:task.")
    ] = "digits",
    seed: Annotated[int, typer.Option(help="Of the model's parameters and of the batch.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what is wrong with a model before it trains: one batch of the task, forward and backward.

    Example: `thalweg diagnose digits-deep`

    Exit codes: 0 done, whatever was found, 2 bad input.
    """
    import torch

    from thalweg.compare.loading import load_task
    from thalweg.compare.task import build_model, materialize
    from thalweg.diagnosis import diagnose

    chosen = load_task(task)
    data = materialize(chosen)
    torch.manual_seed(seed)
    model = build_model(chosen)
    rows = torch.randperm(len(data.train_x))[: chosen.batch_size]
    found = diagnose(model, (data.train_x[rows], data.train_y[rows]), chosen.loss)
    if as_json:
        findings = [{k: _plain(v) for k, v in asdict(f).items()} for f in found]
        print(json.dumps({"task": chosen.name, "findings": findings}, indent=1, allow_nan=False))
        return
    Console().print(str(found), markup=False, highlight=False, soft_wrap=True)


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
