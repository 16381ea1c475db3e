"""``thalweg report``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli.console import Quiet, result_terminal
from thalweg.compare.study import Judge


def command(
    folder: Annotated[Path, typer.Argument(help="Folder of a study (the --out of thalweg compare).")],
    within: Annotated[
        float | None,
        typer.Option(help="Margin within which strategies count as equivalent.", show_default="the study's"),
    ] = None,
    judge: Annotated[
        Judge | None, typer.Option(help="What to judge by, as in thalweg compare.", show_default="the study's")
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(help="Target of the validation metric.", show_default="the study's, or chosen from its runs"),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Folder to write to.", show_default="the study's")] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print results.json to standard output, and everything else to standard error."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write the results.json and report.html of a study again from its store.

    Example: `thalweg report thalweg-digits`

    Example: `thalweg report thalweg-digits --judge time-to-target --target 0.95 --to by-time`

    Exit codes: 0 finished; 2 invalid input, or the files could not be written.
    """
    from thalweg.compare.arguments import check_above
    from thalweg.compare.comparison import Comparison
    from thalweg.tensors.files import FileError

    if within is not None:
        check_above("within", within)
    done, place = Comparison.open(folder, within=within, judge=judge, target=target), to or folder
    console = result_terminal(as_json)
    console.print(done.verdict, style="bold", markup=False, highlight=False)
    console.print(*done.words, sep="\n", markup=False, highlight=False)
    try:
        place.mkdir(parents=True, exist_ok=True)
        done.write(place)
    except OSError as error:
        raise FileError(f"cannot write {place} ({error.strerror}): choose another folder with --to") from error
    except FileError as error:
        raise FileError(f"{error}; choose another folder with --to") from error
    console.print(f"report: {place / done.report.name}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        print(json.dumps(done.results, indent=1, allow_nan=False))
