"""``thalweg report``."""

from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli.console import Terminal


def command(
    folder: Annotated[Path, typer.Argument(help="Folder of a study (the --out of thalweg compare).")],
    within: Annotated[
        float | None,
        typer.Option(help="Margin within which strategies count as equivalent.", show_default="the study's"),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Folder to write to.", show_default="the study's")] = None,
) -> None:
    """Write the results.json and report.html of a study again from its store.

    Example: `thalweg report thalweg-digits`

    Exit codes: 0 finished; 2 invalid input, or the files could not be written.
    """
    from thalweg.compare.arguments import check_above
    from thalweg.compare.comparison import Comparison
    from thalweg.tensors.files import FileError

    if within is not None:
        check_above("within", within)
    done, place = Comparison.open(folder, within=within), to or folder
    console = Terminal()
    console.print(done.verdict, style="bold", markup=False, highlight=False)
    console.print(*done.details, sep="\n", markup=False, highlight=False)
    try:
        place.mkdir(parents=True, exist_ok=True)
        done.write(place)
    except OSError as error:
        raise FileError(f"cannot write {place} ({error.strerror}): choose another folder with --to") from error
    except FileError as error:
        raise FileError(f"{error}; choose another folder with --to") from error
    console.print(f"report: {place / done.report.name}", markup=False, highlight=False, soft_wrap=True)
