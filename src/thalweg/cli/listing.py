"""``thalweg list``."""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import typer
from rich.table import Table

from thalweg.cli.console import Quiet, Terminal

Kind = Literal[
    "all", "tasks", "strategies", "switches", "initializations", "normalizations", "averages", "guidances", "schedules"
]

Section = tuple[tuple[str, ...], list[tuple[str, ...]]]  # the header of a table, and its rows


KEYS = {
    "what it is": "description",
    "search space": "space",
    "with --tune more also": "more",
    "written as": "written_as",
}


def command(
    kind: Annotated[Kind, typer.Argument(help="The kind of names to list.")] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print the names as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """List the built-in tasks and strategies, and the words that can be added to a strategy.

    Example: `thalweg list tasks`

    Exit codes: 0 finished; 2 invalid input.
    """
    from thalweg.compare.ranges import in_words
    from thalweg.compare.strategy.guidances import GUIDANCES
    from thalweg.compare.strategy.second_order import SECOND_ORDER
    from thalweg.compare.strategy.tuned import MORE
    from thalweg.compare.strategy.variants import AVERAGINGS, INITIALIZATIONS, NORMALIZATIONS
    from thalweg.compare.task.builtin import DESCRIPTIONS
    from thalweg.rules import AFTER_THE_BOOK, RULES, SPACES, SWITCHES
    from thalweg.rules.schedules import SCHEDULES

    spaces = {**SPACES, **{name: method.space for name, method in SECOND_ORDER.items()}}

    def ranges(name: str) -> tuple[str, str, str]:
        return name, in_words(spaces[name]), in_words(MORE.get(name, {}))

    def words(kind: str, names: Iterable[str], form: str = "adam+{}") -> Section:
        return (kind, "written as"), [(name, form.format(name)) for name in names]

    columns = ("strategy", "search space", "with --tune more also")
    of_the_chapter = [name for name in RULES if name not in AFTER_THE_BOOK]
    sections: dict[Kind, dict[str, Section]] = {
        "tasks": {"tasks": (("task", "what it is"), list(DESCRIPTIONS.items()))},
        "strategies": {
            "strategies of the chapter": (columns, [ranges(name) for name in [*of_the_chapter, *SECOND_ORDER]]),
            "strategies after the book": (columns, [ranges(name) for name in AFTER_THE_BOOK]),
        },
        "switches": {"switches around an update rule": words("switch", SWITCHES, "adamw+{}")},
        "initializations": {"initializations": words("initialization", INITIALIZATIONS)},
        "averages": {"averages": words("average", AVERAGINGS)},
        "guidances": {"guidances": words("guidance", GUIDANCES)},
        "normalizations": {"normalizations": words("normalization", NORMALIZATIONS)},
        "schedules": {"schedules": words("schedule", SCHEDULES, "adam@{}")},
    }
    if as_json:
        shown = {name: tables for name, tables in sections.items() if kind in ("all", name)}
        print(json.dumps({name: _plain(tables) for name, tables in shown.items()}, indent=1, ensure_ascii=False))
        return
    console = Terminal()
    for name, tables in sections.items():
        for title, (header, rows) in tables.items() if kind in ("all", name) else ():
            table = Table(*header, title=title, title_justify="left", box=None)
            for row in rows:
                table.add_row(*row)
            console.print(table, markup=False)


def _plain(tables: Mapping[str, Section]) -> list[dict[str, str]]:
    """Returns the rows of some tables as plain values, with the title of each where there are several."""
    rows = []
    for title, (header, cells) in tables.items():
        keys = ["name", *(KEYS[column] for column in header[1:])]
        group = {"group": title} if len(tables) > 1 else {}
        rows += [group | dict(zip(keys, row, strict=True)) for row in cells]
    return rows
