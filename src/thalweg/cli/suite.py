"""``thalweg suite``."""

import json
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from thalweg.cli.console import Quiet, progress_terminal, result_terminal
from thalweg.compare.execution import EngineName


def command(
    candidate: Annotated[str, typer.Argument(help="Strategy in question: a name, torch.optim.X or my.py:name.")],
    against: Annotated[str, typer.Option(help="Its rivals, comma-separated.")] = "adamw,momentum,sgd",
    size: Annotated[
        Literal["S", "M", "L"],
        typer.Option(help="S: up to ten minutes for four strategies on two cores; M: about an hour; L: for a cluster."),
    ] = "S",
    tasks: Annotated[
        str | None,
        typer.Option(help="Built-in tasks, comma-separated (see thalweg list tasks).", show_default="the suite's 13"),
    ] = None,
    engine: Annotated[EngineName, typer.Option(help="How to run trials, as for thalweg compare.")] = "auto",
    device: Annotated[
        str | None, typer.Option(help="Device to train on, such as cpu or cuda.", show_default="cuda if available")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder in which the studies are stored.", show_default="thalweg-suite")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed from which all random numbers are derived.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print suite.json to standard output, and everything else to standard error.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Find out whether a strategy is better than others in general: on a dozen tasks that differ in kind.

    Example: `thalweg suite my.py:MyOptimizer --against adamw,momentum --size S`

    Exit codes: 0 finished; 2 invalid input; 130 interrupted; 143 terminated. The same command resumes.
    """
    from thalweg.cli.ending import Terminated, own_output, raised_by
    from thalweg.cli.progress import LiveReporter
    from thalweg.compare.suite.suite import SUITE, suite

    console, here = result_terminal(as_json), Path.cwd()
    printed = own_output(apart=as_json)
    with raised_by(signal.SIGTERM, Terminated), LiveReporter(progress_terminal(as_json)) as reporter, printed:
        done = suite(
            candidate,
            against,
            size=size,
            tasks=SUITE if tasks is None else tasks,
            engine=engine,
            device=device,
            out=out,
            seed=seed,
            reporter=reporter,
            command=shlex.join(["thalweg", *sys.argv[1:]]),
            here=here,
        )
    console.print(done.summary.sentence, style="bold", markup=False, highlight=False)
    console.print(*done.summary.details, sep="\n", markup=False, highlight=False)
    shown = done.report.relative_to(here) if done.report.is_relative_to(here) else done.report
    console.print(f"report: {shown}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        print(json.dumps(done.as_dict(), indent=1, allow_nan=False))
