"""What an initialization did to each parameter, as a table that prints well."""

from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields

from thalweg.tensors.text import aligned


@dataclass(frozen=True)
class Row:
    """One parameter.

    Attributes:
        parameter: its name in the model.
        shape: its shape, as 3×4.
        distribution: what it was drawn from or set to.
        nonlinearity: what follows its layer, where the gain depends on it.
        gain: factor for that nonlinearity.
        fan_in, fan_out: inputs of a unit, and units of an input.
    """

    parameter: str
    shape: str
    distribution: str
    nonlinearity: str | None = None
    gain: float | None = None
    fan_in: float | None = None
    fan_out: int | None = None


@dataclass(frozen=True)
class InitializationTable:
    """The rows of the table, one per parameter, in the order of the model."""

    rows: tuple[Row, ...]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, parameter: str) -> Row:
        """Returns the row of a parameter; raises KeyError where there is none."""
        for row in self.rows:
            if row.parameter == parameter:
                return row
        raise KeyError(parameter)

    def __str__(self) -> str:
        head = tuple(field.name.replace("_", "-") for field in fields(Row))
        cells = [head, *(tuple(map(_cell, astuple(row))) for row in self.rows)]
        return "\n".join(aligned(cells))


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
