"""``thalweg gate``."""

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thalweg.cli.console import Quiet, Terminal, progress_terminal, result_terminal

if TYPE_CHECKING:
    from thalweg.compare.gate.result import Gate

SIDE = "built-in task, my.py:task, or a training loop my.py:train"


def command(
    baseline: Annotated[
        str | None, typer.Option(help=f"What is trained without the change: a {SIDE}, or the records of its runs.")
    ] = None,
    candidate: Annotated[str | None, typer.Option(help="What is trained with the change, as for --baseline.")] = None,
    records: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="BASELINE.jsonl CANDIDATE.jsonl",
            help="Runs that were made elsewhere, in place of --baseline and --candidate: a JSON object a line, with "
            "seed and metric.",
            show_default="none",
        ),
    ] = None,
    strategy: Annotated[
        str, typer.Option(help="Strategy of both sides, as for train: OPTIMIZER[+WORD...][@SCHEDULE] or my.py:name.")
    ] = "adam@cosine",
    baseline_strategy: Annotated[
        str | None, typer.Option(help="Strategy of the baseline alone.", show_default="--strategy")
    ] = None,
    candidate_strategy: Annotated[
        str | None, typer.Option(help="Strategy of the candidate alone.", show_default="--strategy")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=NUMBER", help="Set a hyperparameter of both sides. Can be repeated."),
    ] = None,
    baseline_set: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="The same of the baseline alone. Can be repeated.")
    ] = None,
    candidate_set: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="The same of the candidate alone. Can be repeated.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Number of gradient evaluations of a run.", show_default="each task's")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Test metric that judges.", show_default="the task's, or the only number of a record"),
    ] = None,
    higher_is_better: Annotated[
        bool | None,
        typer.Option(
            "--higher-is-better/--lower-is-better",
            help="Direction of the metric, where its name does not tell.",
            show_default="as its name tells",
        ),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(help="Difference of the metric inside which the sides count as equal.", show_default="none"),
    ] = None,
    expect: Annotated[
        str | None,
        typer.Option(
            help="better, not-worse or equal: exit with code 0 if the runs bear it out, else with 1. not-worse: worse "
            "by less than --within, if at all."
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="Number of seeds at most, each of which both sides are trained with.")
    ] = 10,
    at_most: Annotated[
        str | None,
        typer.Option(help="Begin no seed that would end later than this, such as 20min.", show_default="no limit"),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Device to train on, such as cpu or cuda.", show_default="cuda if available")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder in which the gate is stored.", show_default="thalweg-gate-TASK")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed from which those of the runs are derived.")] = 0,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print gate.json to standard output, and everything else to standard error."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Find out whether a change is real, or a seed: train with and without it until the answer is sure.

    Example: `thalweg gate --baseline before.py:task --candidate after.py:task --within 0.002`

    Example: `thalweg gate --baseline digits --candidate digits --candidate-set lr=0.01 --expect better`

    Example: `thalweg gate --records before.jsonl after.jsonl --metric accuracy --json`

    Exit codes: 0 better; 3 equal; 4 worse; 5 not decided. With --expect: 0 it holds; 1 it does not. 2 invalid input;
    130 interrupted; 143 terminated. After 130 or 143, the same command resumes the gate.
    """
    from thalweg.cli.ending import Terminated, own_output, raised_by
    from thalweg.cli.progress import LiveReporter
    from thalweg.compare.gate.run import gate
    from thalweg.compare.gate.side import Recipe

    here, console = Path.cwd(), result_terminal(as_json)
    sides: list[Any]
    if records is not None:
        given = {"--baseline": baseline, "--candidate": candidate, "--set": set_, "--out": out, "--steps": steps}
        if also := next((name for name, value in given.items() if value is not None), None):
            raise ValueError(f"--records are runs that were made already, and {also} says how to make them: omit one")
        sides = [here / path for path in records]
    else:
        sides = []
        both = _settings("--set", set_)
        for name, task, own, more in (
            ("baseline", baseline, baseline_strategy, baseline_set),
            ("candidate", candidate, candidate_strategy, candidate_set),
        ):
            if task is None:
                raise ValueError(f"--{name} is missing: name a task, as --{name} my.py:task, or give --records A B")
            settings = {**both, **_settings(f"--{name}-set", more)}
            sides.append(task if task.endswith(".jsonl") else Recipe(task, own or strategy, settings, steps))
    printed = own_output(apart=as_json)  # nothing but the answer may stand on standard output then
    with raised_by(signal.SIGTERM, Terminated), LiveReporter(progress_terminal(as_json)) as reporter, printed:
        done = gate(
            sides[0],
            sides[1],
            metric=metric,
            higher_is_better=higher_is_better,
            within=within,
            expect=expect,  # type: ignore[arg-type]
            seeds=seeds,
            at_most=at_most,
            device=device,
            out=out,
            seed=seed,
            reporter=reporter,
            here=here,
        )
    _show(done, console, here)
    if as_json:
        print(json.dumps(done.as_dict(), indent=1, allow_nan=False))
    if expect is None:
        raise typer.Exit(done.code)
    if not done.meets(expect):  # type: ignore[arg-type]
        errors = Terminal(stderr=True)
        errors.print(f"the runs do not meet the expectation {expect!r}", style="red", markup=False)
        raise typer.Exit(1)


def _show(done: "Gate", console: Terminal, here: Path) -> None:
    console.print(done.sentence, style="bold", markup=False, highlight=False)
    for line in [*done.details, *done.notes]:
        console.print(line, markup=False, highlight=False)
    if done.folder is not None:
        page = done.folder / "report.html"
        shown = page.relative_to(here) if page.is_relative_to(here) else page
        console.print(f"report: {shown}", markup=False, highlight=False, soft_wrap=True)


def _settings(option: str, texts: list[str] | None) -> dict[str, str]:
    """Returns what is written as NAME=NUMBER."""
    found = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ValueError(f"{option} {text!r} is not understood: write, for example, {option} lr=0.01")
        found[name] = value
    return found
