"""``thalweg diagnose``."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli.console import Quiet, Terminal, progress_terminal

BATCHES = 32


def command(
    task: Annotated[
        str, typer.Argument(help="Name of a built-in task (see thalweg list tasks), or your own as my.py:task.")
    ] = "digits",
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Apply the fixes that discard nothing learned, and report the remaining findings."),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="HTML file to write, with plots over the layers.")] = None,
    device: Annotated[str, typer.Option(help="Device to run on, such as cpu or cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Seed of the model's parameters and of the batches.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Find out what is wrong with a model before it trains, from a few batches of its task.

    Example: `thalweg diagnose digits-deep --out diagnosis.html`

    `--fix` changes the model only in memory: add the lines that it prints to the function that builds your model.

    Exit codes: 0 finished, whatever the findings; 2 invalid input.
    """
    import torch

    from thalweg.cli.ending import own_output
    from thalweg.compare.arguments import SEED, check_whole, usable_device
    from thalweg.compare.report.page import write_diagnosis
    from thalweg.compare.task import build_model, examples
    from thalweg.compare.task.loading import load_pairs
    from thalweg.compare.user_errors import user_errors
    from thalweg.diagnosis import diagnose
    from thalweg.tensors.files import check_writable

    check_whole("seed", seed, *SEED)
    torch_device, page = usable_device(device), None if out is None else out.absolute()
    if page is not None:
        check_writable(page)
    console = progress_terminal(as_json=True)
    status = console.status("layers") if console.is_terminal else None
    with status or nullcontext(), own_output(apart=as_json), user_errors("the task"):
        chosen = load_pairs(task, "diagnose")
        assert chosen.loss is not None
        train = examples(chosen).train.to(torch_device)
        torch.manual_seed(seed)
        model = build_model(chosen).to(torch_device)
        count = max(1, int(min(BATCHES, train.steps_per_epoch(chosen.batch_size))))
        batches = [tuple(train.batch(rows)) for rows in train.rows(seed, 0, count, chosen.batch_size)]
        progress = status.update if status else None
        found = diagnose(model, batches[0], chosen.loss, more=batches[1:], fix=fix, progress=progress)
    if as_json:
        print(json.dumps({"task": chosen.name, **found.as_dict()}, indent=1, allow_nan=False))
    else:
        Terminal().print(str(found), markup=False, highlight=False, soft_wrap=True)
    if page is not None:
        write_diagnosis(chosen.name, found.as_dict(), page)
        console.print(f"page: {out}", markup=False, highlight=False, soft_wrap=True)
