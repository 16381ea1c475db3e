"""``thalweg export``."""

import csv
import json
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from thalweg.cli.console import Quiet, progress_terminal
from thalweg.compare.log.tracker import TRACKERS, TrackerName
from thalweg.compare.names import cell
from thalweg.extras import needs

if TYPE_CHECKING:
    from thalweg.compare.storage.store import Store

FIXED = ("rung", "key", "strategy", "seed", "status", "steps", "test")
JUDGED = ("judge", "unit", "target")  # of a study that is not judged by the metric
Format = Literal["csv", "json", "parquet", "optuna", TrackerName]


def command(
    folder: Annotated[Path, typer.Argument(help="Folder of a study (the --out of thalweg compare).")],
    format: Annotated[Format, typer.Option(help="Format of the output.")] = "csv",
    to: Annotated[
        str | None, typer.Option(help="File to write, or the place of a tracker.", show_default="standard output")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    quiet: Quiet = False,
) -> None:
    """Export a study's records as a table with one row per point of each learning curve, or for another program.

    Example: `thalweg export thalweg-digits --format parquet --to digits.parquet`

    Example: `thalweg export thalweg-digits --format optuna --to digits.journal`, for `optuna-dashboard digits.journal`

    Example: `thalweg export thalweg-digits --format tensorboard --to runs`

    Exit codes: 0 finished; 2 invalid input, or the output could not be written.
    """
    from thalweg.compare.storage.errors import fault
    from thalweg.compare.storage.store import Store
    from thalweg.compare.study.basis import judged_by
    from thalweg.compare.user_errors import StudyError

    if as_json and format not in ("csv", "json"):
        raise ValueError(f"--json is --format json, and not {format}: omit one of them")
    format, path = "json" if as_json else format, Path(to) if to else None
    store = Store.open(folder)
    try:
        if format == "optuna":
            _optuna(store, path)
        elif format in TRACKERS:
            _logged(store, format, to)
        else:
            by = judged_by(store.facts())
            _tabled([record | by for record in store.records()], format, path)
    except OSError as error:
        raise ValueError(f"cannot write to {to} ({error.strerror}): choose another file with --to") from error
    except (ValueError, StudyError):
        raise
    except Exception as error:  # its bytes are as they were written, but not by a study
        raise fault(store.path, error) from error
    finally:
        store.close()


def _optuna(store: "Store", to: Path | None) -> None:
    from thalweg.compare.to_optuna import to_optuna

    if to is None:
        raise ValueError("the optuna format needs a file for its storage: name one with --to")
    names = to_optuna(store, to)
    progress_terminal(as_json=True).print(
        f"exported {len(names)} studies: show them with optuna-dashboard {shlex.quote(str(to))}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _logged(store: "Store", name: str, place: str | None) -> None:
    from thalweg.compare.log.log import Log
    from thalweg.compare.log.tracker import tracker_of

    Log(store, [tracker_of(f"{name}={place or ''}")]).all_of_it()


def _tabled(records: list[dict[str, Any]], format: str, to: Path | None) -> None:
    """Writes the points of all records, a row each, or all records as JSON."""
    if format == "json":
        from thalweg.compare.study.results import plain

        text = json.dumps(plain(records), indent=1, allow_nan=False) + "\n"
        if to:
            to.write_text(text, encoding="utf-8")
        else:
            sys.stdout.write(text)
        return
    rows = [row for record in records for row in _points(record)]
    names = sorted(
        dict.fromkeys(name for row in rows for name in row),
        key=lambda name: 0 if name in (*FIXED, *JUDGED) else 1 if name.startswith("hyper.") else 2,
    )
    if format == "parquet":
        _parquet(rows, names, to)
        return
    with open(to, "w", newline="", encoding="utf-8") if to else nullcontext(sys.stdout) as out:
        writer = csv.writer(out)
        writer.writerow(map(cell, names))
        writer.writerows([cell(row.get(name)) for name in names] for row in rows)


def _points(record: dict[str, Any]) -> list[dict[str, Any]]:
    fixed = {name: record[name] for name in (*FIXED, *JUDGED) if name in record}
    fixed |= {f"hyper.{name}": value for name, value in record["hyper"].items()}
    curve = record["curve"]
    return [fixed | dict(zip(curve, point, strict=True)) for point in zip(*curve.values(), strict=True)] or [fixed]


def _parquet(rows: list[dict[str, Any]], names: list[str], to: Path | None) -> None:
    if to is None:
        raise ValueError("the parquet format is binary and needs a file: name one with --to")
    with needs("parquet", "--format parquet"):
        import pyarrow
        import pyarrow.parquet
    pyarrow.parquet.write_table(pyarrow.table({n: [row.get(n) for row in rows] for n in names}), to)
