"""``thalweg watch``."""

import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from thalweg.cli.console import Quiet, Terminal, progress_terminal

if TYPE_CHECKING:
    from thalweg.serve.studies import Study

State = dict[str, Any]
PAUSE = 1.0  # seconds between two looks at the files
SHARE = 20  # times as long as reading a study took, for which it is not read again
TRIES = 4  # looks in a row at which a study that runs cannot be read, or seems not to run
SHOWN = 8  # strategies


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder of a study, or a folder that contains one.")
    ] = Path(),
    once: Annotated[bool, typer.Option("--once", help="Show the state once, and exit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the state once as JSON, and exit.")] = False,
    quiet: Quiet = False,
) -> None:
    """Show the progress of a study in the terminal, from its folder alone, until it ends.

    Example: `thalweg watch thalweg-digits`

    Nothing is written, so that a study can be watched from anywhere that its folder can be read, over ssh too. On a
    terminal the view is updated in place; otherwise, a line is printed when something has changed.

    Exit codes: 0 the study is finished, or its state was printed once; 1 no process runs it any more; 2 invalid input;
    130 interrupted. Ctrl-C ends the view alone.
    """
    from thalweg.serve.studies import Study, find

    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: name that of a study (--out of thalweg compare)")
    found = find(folder)
    if len(found) != 1:
        names = ", ".join(sorted(found)[:SHOWN]) + ", …" * (len(found) > SHOWN)
        what = f"{len(found)} studies: name one of them: {names}" if found else "no study: name the folder of one"
        raise ValueError(f"{folder} contains {what}")
    ((name, place),) = found.items()
    study, console = Study(name, place), Terminal(highlight=False)
    if as_json:
        print(json.dumps(_state(study), indent=1, allow_nan=False))
    elif once:
        console.print(_view(_state(study)))
    else:
        _follow(study, console, quiet)


def _state(study: "Study") -> State:
    """Returns how far a study is, as plain values; the fields are described in the documentation for scripts.

    Raises:
        StudyError: it is damaged, or holds what no study does.
    """
    from thalweg.compare.storage.create import FILE
    from thalweg.compare.storage.errors import damaged
    from thalweg.compare.user_errors import StudyError

    study.signature()  # which looks whether it runs
    try:
        return _as_plain(study, study.summary(), study.results())
    except StudyError:
        raise
    except Exception as error:  # a store may hold anything
        raise damaged(study.folder / FILE, error) from error


def _as_plain(study: "Study", summary: Mapping[str, Any], results: Mapping[str, Any]) -> State:
    task, verdict = results["task"], results["verdict"]
    running = {True: "running", False: "stopped", None: "unknown"}
    return {
        "study": study.name,
        "folder": str(study.folder),
        "state": "finished" if verdict else running[summary["running"]],
        "stage": summary["stage"],
        "done": summary["done"],
        "left": summary["left"],
        "seconds_left": summary["seconds_left"],
        "written": datetime.fromtimestamp(summary["written"], UTC).isoformat(timespec="seconds"),
        "task": {name: task[name] for name in ("name", "metric", "direction")},
        "standing": [
            {
                "strategy": s["name"],
                "valid": s["valid"],
                "test": s["test"]["typical"] if verdict else None,
                "hyperparameters": {name: x for name, x in s["hyperparameters"].items() if name in s["space"]},
            }
            for s in results["strategies"]
        ],
        "verdict": verdict["sentence"] if verdict else None,
        "command": summary["command"],
    }


def _states(study: "Study") -> Iterator[State]:
    """Yields the state of a study about every second, until it is finished or no process runs it any more.

    It is read again where its files have changed, and not at once where that takes long.
    """
    from thalweg.compare.user_errors import StudyError

    known, state = study.signature(), _state(study)
    until, due = time.time() + (state["seconds_left"] or 0.0), 0.0
    missed = stopped = 0
    while True:
        yield state
        stopped = stopped + 1 if state["state"] == "stopped" else 0
        if state["state"] == "finished" or stopped == TRIES:
            return
        time.sleep(PAUSE)
        began, signature = time.monotonic(), study.signature()
        if signature != known and began >= due:
            try:
                state = _state(study)
            except StudyError:  # a writer may have been at it
                missed += 1
                if missed == TRIES:
                    raise
                continue
            known, missed = signature, 0
            until = time.time() + (state["seconds_left"] or 0.0)
            due = time.monotonic() + SHARE * (time.monotonic() - began)
        elif state["state"] == "running" and state["seconds_left"] is not None:
            state["seconds_left"] = max(0.0, until - time.time())


def _follow(study: "Study", console: Terminal, quiet: bool) -> None:
    """Shows a study until it ends. Raises ``typer.Exit`` with code 1 where it ends without being finished."""
    state, said = State(), ""
    if console.is_terminal and not quiet:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            for state in _states(study):
                live.update(_view(state, bar=True), refresh=True)
    else:
        for state in _states(study):
            line = _line(state)
            if state["state"] not in ("finished", "stopped") and line != said:
                progress_terminal(quiet=quiet).print(f"{line}{_left(state)}", soft_wrap=True, markup=False)
                said = line
    console.print(_view(state))
    if state["state"] != "finished":
        raise typer.Exit(1)


def _line(state: State) -> str:
    """Returns how far a study is in a line, which changes about ten times.

    >>> standing = [{"strategy": "adam", "valid": 0.9312, "hyperparameters": {"lr": 0.0123}}]
    >>> _line({"stage": "final runs", "done": 270, "left": 730, "standing": standing})
    'final runs: 20 % done, best so far adam'
    """
    share = 10 * (10 * state["done"] // max(1, state["done"] + state["left"]))
    best = next((s["strategy"] for s in state["standing"] if s["valid"] is not None), None)
    return f"{state['stage']}: {share} % done{f', best so far {best}' if best else ''}"


def _left(state: State) -> str:
    from thalweg.compare.arguments import in_words

    seconds = state["seconds_left"]
    return "" if seconds is None else f", about {in_words(max(1.0, seconds))} left"


def _view(state: State, bar: bool = False) -> RenderableType:
    """Returns the state as it is shown, with a bar on a terminal."""
    running = "" if state["state"] in ("finished", "unknown") else f", {state['state']}"
    title = f"{state['task']['name']} ({state['study']}): {state['stage']}{running}"
    parts: list[RenderableType] = [Text(title, "bold")]
    total = state["done"] + state["left"]
    if state["verdict"]:
        parts.append(Text(state["verdict"]))
    else:
        parts += [ProgressBar(max(1, total), state["done"], width=60)] if bar else []
        parts.append(Text(f"{state['done']:,} of {total:,} trial-steps{_left(state)}"))
    field, what = ("test", "typical test") if state["verdict"] else ("valid", "best validation")
    known = [s for s in state["standing"] if s[field] is not None]
    if known:
        parts.append(Text(f"{what} {state['task']['metric']}{'' if state['verdict'] else ' so far'}:"))
        width = max(len(s["strategy"]) for s in known[:SHOWN])
        for s in known[:SHOWN]:
            parts.append(Text(f"  {s['strategy']:<{width}}  {s[field]:<8.4g}{_tuned(s['hyperparameters'])}"))
        parts += [Text(f"  and {len(known) - SHOWN} more")] if len(known) > SHOWN else []
    if state["state"] == "stopped":
        parts.append(Text(f"No process is running it. {state['command'] or 'The same command'} resumes it."))
    return Group(*parts)


def _tuned(hyper: Mapping[str, float]) -> str:
    from thalweg.compare.ranges import shown

    return " ".join(f" {name} {shown(value)}" for name, value in hyper.items())
