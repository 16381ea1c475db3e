"""``thalweg init``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thalweg.cli.console import Quiet, result_terminal
from thalweg.cli.starters.written import KINDS, Kind

if TYPE_CHECKING:
    from thalweg.cli.starters.written import Source


def command(
    module: Annotated[
        Path | None,
        typer.Argument(help="Python file with your model, which is read and not run.", show_default="no model yet"),
    ] = None,
    kind: Annotated[
        Kind | None, typer.Option(help="Kind of training.", show_default="what the module tells, else tabular")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Class of the module to train.", show_default="the first that is no part of another"),
    ] = None,
    out: Annotated[Path, typer.Option(help="File to write. A file that is there is left as it is.")] = Path("my.py"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was written as JSON, and everything else to standard error.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write a commented my.py, which thalweg compare runs as it is, to put your own model and data into.

    Example: `thalweg init --kind vision`

    Example: `thalweg init net.py`, for the models and data sets that net.py defines

    Exit codes: 0 written; 2 invalid input, or the file is there already.
    """
    from thalweg.cli.starters.written import command_of, starter
    from thalweg.tensors.files import FileError, check_writable

    if out.suffix != ".py" or not out.stem.isidentifier():
        raise ValueError(f"{out} is no name of a Python module: choose another --out, such as my.py")
    if out.exists() or out.is_symlink():
        raise ValueError(f"{out} is there already, and is left as it is: choose another --out")
    if model is not None and module is None:
        raise ValueError(
            "--model names a class of a module: name its file first, as in thalweg init net.py --model Net"
        )
    source, others = (None, []) if module is None else _source(module, model, out)
    chosen = kind or ("tabular" if source is None else source.kind())
    text = starter(chosen, out.name, source)
    check_writable(out)
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ValueError(f"{out} is there already, and is left as it is: choose another --out") from None
    except OSError as error:
        raise FileError(f"cannot write {out} ({error.strerror}): choose another --out") from error
    line = command_of(text, out)
    console = result_terminal(as_json)
    if source is not None:
        also = f" (--model chooses another one: {', '.join(others)})" if others else ""
        console.print(f"model: {source.model}{also}", markup=False, highlight=False, soft_wrap=True)
    elif kind is None:
        console.print(
            f"kind: {chosen} (--kind chooses another one: {', '.join(KINDS)})",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"wrote {out}; the next command:", markup=False, highlight=False, soft_wrap=True)
    console.print(line, style="bold", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        record = {"file": str(out), "kind": chosen, "model": source and source.model, "models": others, "command": line}
        print(json.dumps(record, indent=1))


def _source(file: Path, model: str | None, out: Path) -> "tuple[Source, list[str]]":
    """Returns the model to train, and the others of its module."""
    import difflib

    from thalweg.cli.starters.module import read
    from thalweg.cli.starters.written import Source

    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not a text in UTF-8: name a Python file") from None
    except OSError as error:
        raise ValueError(f"cannot read {file} ({error.strerror}): name a Python file with your model") from error
    found = read(text, str(file))
    names = found.models()
    if not names:
        raise ValueError(
            f"{file} defines no class that derives from torch.nn.Module or LightningModule: name another file, or "
            "choose a --kind without one"
        )
    chosen = model or names[0]
    if chosen not in names:
        near = difflib.get_close_matches(chosen, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
        raise ValueError(f"{file} defines no model {chosen!r}: {hint}")
    return Source.of(found, _import_name(file, out), chosen), [name for name in names if name != chosen]


def _import_name(file: Path, out: Path) -> str:
    """Returns the name by which a file beside or below ``out`` is imported there."""
    place, home = file.resolve(), out.resolve().parent
    if place.suffix != ".py" or not place.is_relative_to(home):
        raise ValueError(f"{file} does not lie in or below the folder of {out.name}: write that beside it, with --out")
    names = [*place.parent.relative_to(home).parts, place.stem]
    if names[-1] == "__init__":
        names.pop()
    if bad := next((name for name in names if not name.isidentifier()), None) or ("" if names else file.name):
        raise ValueError(f"{file} cannot be imported, since {bad!r} is no name of a module: rename it")
    return ".".join(names)
