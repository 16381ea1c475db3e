"""What became of training: one row each time that it was looked at."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from thalweg.tensors.text import aligned

Row = dict[str, Any]


@dataclass(frozen=True)
class History:
    """Rows in order, as plain dictionaries; it prints as a table.

    Each row has ``stage``, ``step`` (taken in the stage), ``epoch`` (counted from 1), ``lr`` (of the first group),
    ``train_loss`` (mean since the row before), ``seconds`` (since training began, over all sittings), and what the
    stage's ``validate`` gives.

    >>> print(History([{"stage": "joint", "step": 5, "train_loss": 0.25}]))
    stage  step  train_loss
    joint  5     0.25
    """

    rows: list[Row] = field(default_factory=list)

    def column(self, name: str, stage: str | None = None) -> list[Any]:
        """Returns a column, of one stage or all; None where a row lacks it."""
        return [row.get(name) for row in self.rows if stage in (None, row["stage"])]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __str__(self) -> str:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        lines = [names, *([_shown(row.get(name)) for name in names] for row in self.rows)]
        return "\n".join(aligned(lines))


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
