"""A finished comparison in the terminal: the table, the verdict and the path of the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.table import Table

from thalweg.cli.console import Terminal

if TYPE_CHECKING:
    from thalweg.compare.comparison import Comparison


def show(done: "Comparison", console: Terminal, here: Path) -> None:
    """Prints a comparison; its report is shown as seen from ``here``."""
    from thalweg.compare.arguments import in_words

    budget, name = done.results["budget"], done.results["task"]["name"]
    cost = budget["gradient_evaluations_per_strategy"]
    costs = {s["gradient_evaluations"] for s in done.results["strategies"]}
    least = f"{min(costs):,} to " if len(costs) > 1 else ""
    same = f"{least}{cost:,} gradient evaluations" if cost else f"runs of {in_words(budget['run_seconds'])}"
    title = f"{name}: {same} per strategy"
    if done.results["judge"]["text"]:
        title += f"\n{done.results['judge']['text']}"
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False, padding=0)
    rows = done.rows()
    apart = [f" {row['strategy']}: {row.pop('tuned to')}" for row in rows] if not _fits(rows, console.width) else []
    for column in rows[0]:
        table.add_column(
            column,
            overflow="fold",
            no_wrap=column not in ("strategy", "tuned to"),
            max_width=None if column == "tuned to" else 24,
        )
    for row in rows:
        table.add_row(*row.values())
    console.print(table, markup=False)
    if apart:
        console.print("tuned to", *apart, "", sep="\n", markup=False, highlight=False, soft_wrap=True)
    console.print(*done.details, sep="\n", markup=False, highlight=False)
    shown = done.report.relative_to(here) if done.report.is_relative_to(here) else done.report
    console.print(f"report: {shown}", markup=False, highlight=False, soft_wrap=True)
    console.print(done.verdict, style="bold", markup=False, highlight=False)  # last, where the eye is


def _fits(rows: Sequence[Mapping[str, str]], width: int) -> bool:
    """Says whether the rows fit on a line each."""
    longest = [max(map(len, (line for cell in column for line in cell.split("\n")))) for column in _columns(rows)]
    return sum(longest) + len(longest) <= width


def _columns(rows: Sequence[Mapping[str, str]]) -> list[list[str]]:
    return [[name.split()[-1], *(row[name] for row in rows)] for name in rows[0]]
