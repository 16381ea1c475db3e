"""``thalweg list``."""

from typing import Annotated, Literal

import typer
from rich.table import Table

from thalweg.cli.console import Terminal

Kind = Literal["all", "tasks", "strategies", "initializations", "normalizations", "averages", "guidances", "schedules"]


def command(kind: Annotated[Kind, typer.Argument(help="The kind of names to list.")] = "all") -> None:
    """List the built-in tasks and strategies, and the words that can be added to a strategy.

    Example: `thalweg list tasks`
    """
    from thalweg.compare.ranges import in_words
    from thalweg.compare.strategy.guidances import GUIDANCES
    from thalweg.compare.strategy.second_order import SECOND_ORDER
    from thalweg.compare.strategy.tuned import MORE
    from thalweg.compare.strategy.variants import AVERAGINGS, INITIALIZATIONS, NORMALIZATIONS
    from thalweg.compare.task.builtin import DESCRIPTIONS
    from thalweg.rules import RULES, SPACES
    from thalweg.rules.schedules import SCHEDULES

    spaces = {**SPACES, **{name: method.space for name, method in SECOND_ORDER.items()}}

    def ranges(name: str) -> tuple[str, str, str]:
        return name, in_words(spaces[name]), in_words(MORE.get(name, {}))

    sections: dict[str, tuple[tuple[str, ...], list[tuple[str, ...]]]] = {
        "tasks": (("task", "what it is"), list(DESCRIPTIONS.items())),
        "strategies": (
            ("strategy", "search space", "with --tune more also"),
            [ranges(name) for name in [*RULES, *SECOND_ORDER]],
        ),
        "initializations": (("initialization", "written as"), [(name, f"adam+{name}") for name in INITIALIZATIONS]),
        "averages": (("average", "written as"), [(name, f"adam+{name}") for name in AVERAGINGS]),
        "guidances": (("guidance", "written as"), [(name, f"adam+{name}") for name in GUIDANCES]),
        "normalizations": (("normalization", "written as"), [(name, f"adam+{name}") for name in NORMALIZATIONS]),
        "schedules": (("schedule", "written as"), [(name, f"adam@{name}") for name in SCHEDULES]),
    }
    console = Terminal()
    for name, (header, rows) in sections.items():
        if kind in ("all", name):
            table = Table(*header, title=name, title_justify="left", box=None)
            for row in rows:
                table.add_row(*row)
            console.print(table, markup=False)
