"""``thalweg report``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def command(folder: Annotated[Path, typer.Argument(help="Folder that thalweg compare wrote (--out).")]) -> None:
    """Write results.json and report.html of a study again from its store.

    Example: `thalweg report thalweg-digits`
    """
    from thalweg.compare.comparison import Comparison

    done = Comparison.open(folder, write=True)
    console = Console()
    console.print(done.verdict, style="bold", markup=False, highlight=False)
    console.print(f"report: {done.report}", markup=False, highlight=False, soft_wrap=True)
