"""``thalweg train``."""

import math
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from thalweg.cli.console import Quiet, Terminal, progress_terminal, result_terminal

if TYPE_CHECKING:
    from torch import nn

    from thalweg.compare.execution.context import TaskContext
    from thalweg.compare.strategy import Strategy


def command(
    context: typer.Context,
    task: Annotated[
        str, typer.Argument(help="Name of a built-in task (see thalweg list tasks), or your own as my.py:task.")
    ] = "digits",
    strategy: Annotated[
        str, typer.Option(help="Strategy, as for compare: OPTIMIZER[+WORD...][@SCHEDULE], torch.optim.X or my.py:name.")
    ] = "adam@cosine",
    steps: Annotated[
        int | None, typer.Option(help="Number of steps, including those of a guidance.", show_default="the task's")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Value of a hyperparameter, such as lr=0.01. Can be repeated.")
    ] = None,
    decay: Annotated[
        Literal["all", "weights"],
        typer.Option(help="Parameters to which weight decay applies: all, or weights of two or more dimensions."),
    ] = "all",
    no_decay: Annotated[
        bool,
        typer.Option(
            "--no-decay", help="Leave biases and normalizations out of weight decay; Task(no_decay=) names others."
        ),
    ] = False,
    patience: Annotated[
        int | None,
        typer.Option(help="Stop after this many validations without improvement, and keep the best parameters."),
    ] = None,
    evaluate_every: Annotated[
        int | None, typer.Option(help="Number of steps between validations.", show_default="a twentieth of the run")
    ] = None,
    accumulate: Annotated[int, typer.Option(help="Number of batches per step.")] = 1,
    precision: Annotated[Literal["full", "bfloat16"], typer.Option(help="Precision in which layers compute.")] = "full",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the weights, the history and the checkpoint.", show_default="thalweg-train-TASK"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume from the checkpoint in the folder, if there is one.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="Device to train on, such as cpu or cuda.", show_default="cuda if available")
    ] = None,
    shard: Annotated[
        bool,
        typer.Option("--shard", help="Divide not only the batches but also the model among the processes of torchrun."),
    ] = False,
    log: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TRACKER[=PLACE]", help="Also log the history to tensorboard, mlflow or wandb. Can be repeated."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed from which all random numbers are derived.")] = 0,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print history.json to standard output, and everything else to standard error."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train the model of a task with one strategy, and write model.safetensors and history.json.

    Example: `thalweg train digits --strategy adam+he@warmup-cosine --set lr=0.003 --patience 5`

    Example with several processes: `torchrun --nproc-per-node 4 --max-restarts 3 -m thalweg train digits --resume`. If
    a process is lost, torchrun restarts all of them, and the run continues from its last checkpoint.

    Exit codes: 0 finished; 1 another process was lost; 2 invalid input; 130 interrupted (the same command with
    `--resume` continues the run, bit for bit).
    """
    from dataclasses import replace
    from functools import partial

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_model

    from thalweg.cli import processes
    from thalweg.cli.ending import Interrupted, own_output
    from thalweg.cli.progress import LiveTraining
    from thalweg.compare.arguments import SEED, check_whole, usable_device
    from thalweg.compare.execution.context import TaskContext
    from thalweg.compare.execution.guidance import guidance_of
    from thalweg.compare.execution.guidance.staging import stage_of
    from thalweg.compare.execution.job import Job
    from thalweg.compare.log.tracker import tracker_of
    from thalweg.compare.log.training import log_training
    from thalweg.compare.names import as_folder
    from thalweg.compare.strategy import Strategy
    from thalweg.compare.strategy.variants import built
    from thalweg.compare.study.results import in_json, plain
    from thalweg.compare.task import materialize
    from thalweg.compare.task.loading import load_pairs
    from thalweg.compare.user_errors import user_errors
    from thalweg.stages import EarlyStopping
    from thalweg.tensors.files import FileError, write_text
    from thalweg.training import train
    from thalweg.training.shard import divide, undivided

    for name, value in (("accumulate", accumulate), ("patience", patience), ("evaluate-every", evaluate_every)):
        if value is not None:
            check_whole(name, value)
    if steps is not None:
        check_whole("steps", steps)
    check_whole("seed", seed, *SEED)
    group, here = context.with_resource(processes.joined(resume)), Path.cwd()  # the user's code may change it
    with processes.agreeing(group), own_output(apart=as_json), user_errors("the task"):
        trackers = [tracker_of(spec, here) for spec in log or ()] if processes.is_main_process() else []
        chosen, given = Strategy.parse(strategy, here), load_pairs(task, "train", here)
        torch_device = processes.own_device(usable_device(device), group)
        hyper = _configured(chosen, set_ or [])
        the_task = built(replace(given, no_decay=no_decay or given.no_decay), chosen.variant)
        task_context = TaskContext(the_task, materialize(the_task), torch_device, decay)
        make = partial(task_context.fresh_model, chosen.initialization, seed)
        model, total = make(), the_task.steps if steps is None else steps
        processes.synchronize(model, group)
        guidance = guidance_of(chosen)
        spent = sum(guidance.charged(task_context, chosen, total).values())
        if spent and spent >= total:
            raise ValueError(f"{chosen.name} spends {spent} of {total} steps before its first step: increase --steps")
        stopping = None
        if patience is not None:
            stopping = EarlyStopping(patience, f"valid_{the_task.metric_name}", the_task.direction == "max")
        stage = replace(
            stage_of(task_context, chosen, hyper, total - spent, seed, model, the_task.grouping.settings(model)),
            validate=lambda m: _judged(task_context, m, "valid"),
            accumulate=accumulate,
            evaluate_every=evaluate_every,
            precision=torch.bfloat16 if precision == "bfloat16" else None,
            early_stopping=stopping,
        )
        job = Job(the_task.name, chosen, hyper, seed, spent, total, total, total, prepared=spent)
        shown = out or Path(f"thalweg-train-{as_folder(the_task.name)}")
        folder = _folder(here, shown, resume)
        plan = guidance.plan(task_context, job, model, stage)
        processes.check(plan, group, shard)
        if shard and group is not None:
            divide(model, group, torch_device)
    others = not processes.is_main_process()
    console, progress = result_terminal(as_json, others), progress_terminal(as_json, others)
    try:
        remedy = "correct it, and resume with --resume"
        with LiveTraining(progress) as live, own_output(apart=as_json), user_errors("training", remedy):
            history = train(
                plan.model,
                plan.stages,
                seed=seed,
                checkpoint=folder / "checkpoint.pt",
                resume=resume,
                callback=live,
                process_group=group,
            )
    except Interrupted:
        errors = Terminal(stderr=True, quiet=not processes.is_main_process())
        errors.print(f"\ninterrupted: --resume continues from {shown}", markup=False, highlight=False)
        raise typer.Exit(130) from None
    with own_output(apart=as_json), user_errors("the trained model"):
        test = _judged(task_context, model, "test")
    bare = undivided(model, make)
    if not processes.is_main_process():
        return
    partial_file = folder / "model.partial"
    try:
        save_model(bare, str(partial_file))
        shutil.copymode(folder / "checkpoint.pt", partial_file)  # safetensors lets nobody else read it
        os.replace(partial_file, folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        partial_file.unlink(missing_ok=True)
        raise FileError(
            f"cannot write {shown / 'model.safetensors'} ({error}): free some space, and resume with --resume"
        ) from error
    record = {
        "task": the_task.name,
        "strategy": chosen.name,
        "hyperparameters": hyper,
        "decay": decay,
        **the_task.grouping.described,
        "seed": seed,
        **test,
        "rows": history.rows,
    }
    write_text(in_json(plain(record)), folder / "history.json")
    if progress.is_terminal:  # elsewhere its rows were printed as they came
        progress.print(str(history), markup=False, highlight=False, soft_wrap=True)
    came_to = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in test.items())
    console.print(came_to, style="bold", markup=False, highlight=False)
    console.print(f"weights: {shown / 'model.safetensors'}", markup=False, highlight=False, soft_wrap=True)
    log_training(trackers, folder, plain(record))
    if as_json:
        print(in_json(plain(record)), end="")


def _judged(context: "TaskContext", model: "nn.Module", part: Literal["valid", "test"]) -> dict[str, float]:
    """Returns loss and metric of the model on a whole part of the data."""
    loss, metric = context.evaluate(model, getattr(context.data, part))
    return {f"{part}_loss": loss, f"{part}_{context.task.metric_name}": metric}


def _configured(strategy: "Strategy", settings: list[str]) -> dict[str, float]:
    """Returns the strategy's default configuration with what is set in its place."""
    from thalweg.compare.strategy.hyperparameters import own_name
    from thalweg.compare.user_errors import LoadError

    hyper = strategy.default_configuration()
    for text in settings:
        name, _, value = text.partition("=")
        if name not in hyper:
            try:
                hyper = {**strategy.with_settings({name: value}).default_configuration(), **hyper}
                name = own_name(strategy, name)
            except LoadError:
                known = ", ".join(hyper)
                raise ValueError(f"{strategy.name} has no hyperparameter {name!r}: choose among {known}") from None
        try:
            hyper[name] = float(value)
        except ValueError:
            raise ValueError(f"--set {text!r} does not give a number: write, for example, {name}=0.01") from None
        if not math.isfinite(hyper[name]):
            raise ValueError(f"--set {text!r} does not give a finite number: write, for example, {name}=0.01")
    return strategy.rounded(hyper)


def _folder(here: Path, shown: Path, resume: bool) -> Path:
    """Returns the folder that is shown so, seen from ``here``; it is made if need be."""
    from thalweg.tensors.files import check_utf8, check_writable, is_partial

    path = here / shown
    check_utf8(path)
    try:
        if path.exists() and not path.is_dir():
            raise ValueError(f"{shown} is a file, not a folder: choose another --out")
        present = [] if not path.is_dir() else [p for p in path.iterdir() if not is_partial(p)]
        if present:
            if not (path / "checkpoint.pt").exists():
                raise ValueError(f"{shown} is not empty and contains no run: choose another --out, or empty it")
            if not resume:
                raise ValueError(f"{shown} contains a run: continue it with --resume, or choose another --out")
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write to {shown} ({error.strerror}): choose another --out") from error
    check_writable(path / "history.json")
    return path
