"""``thalweg export``."""

import csv
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def command(
    folder: Annotated[Path, typer.Argument(help="Folder that thalweg compare wrote (--out).")],
    format: Annotated[Literal["csv", "json", "parquet"], typer.Option(help="What to write.")] = "csv",
    to: Annotated[Path | None, typer.Option(help="File to write.", show_default="standard output")] = None,
) -> None:
    """Write a study's records, one row for each point of each learning curve.

    Example: `thalweg export thalweg-digits --format parquet --to digits.parquet`
    """
    from thalweg.compare.store import Store

    store = Store.open(folder)
    try:
        records = list(store.records())
    finally:
        store.close()
    if format == "json":
        text = json.dumps(_strict(records), indent=1, allow_nan=False)
        _write(text + "\n", to)
        return
    rows = [row for record in records for row in _points(record)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    if format == "parquet":
        _parquet(rows, names, to)
        return
    with open(to, "w", newline="", encoding="utf-8") if to else sys.stdout as out:
        writer = csv.DictWriter(out, names)
        writer.writeheader()
        writer.writerows(rows)


def _points(record: dict[str, Any]) -> list[dict[str, Any]]:
    fixed = {k: record[k] for k in ("rung", "key", "strategy", "seed", "status", "steps", "test")}
    fixed |= {f"hyper.{name}": value for name, value in record["hyper"].items()}
    curve = record["curve"]
    return [fixed | dict(zip(curve, point, strict=True)) for point in zip(*curve.values(), strict=True)] or [fixed]


def _strict(records: list[dict[str, Any]]) -> Any:
    from thalweg.compare.results import plain

    return plain(records)


def _write(text: str, to: Path | None) -> None:
    if to:
        to.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


def _parquet(rows: list[dict[str, Any]], names: list[str], to: Path | None) -> None:
    if to is None:
        raise ValueError("parquet is binary: name a file with --to")
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError("parquet needs pyarrow: pip install 'thalweg[parquet]'") from error
    pyarrow.parquet.write_table(pyarrow.table({n: [row.get(n) for row in rows] for n in names}), to)
