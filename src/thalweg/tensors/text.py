"""Text for people: rows under each other, and long lists cut short."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns a line for each row, with columns as wide as their widest cell.

    >>> aligned([("name", "lr"), ("adam", "1e-3")])
    ['name  lr', 'adam  1e-3']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def some(names: Sequence[object], most: int = 8) -> str:
    """Returns the first names in a list, and a mark where there are more.

    >>> some([1, 2, 3], most=2)
    '1, 2 …'
    """
    return ", ".join(map(str, names[:most])) + (" …" if len(names) > most else "")
