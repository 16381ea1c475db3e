"""``thalweg``: entry point; one line and exit code 2 for whatever the user can mend."""

import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from thalweg import __version__
from thalweg.cli import compare, diagnose, export, listing, report, serve, sparse_code, train


class _Verbs(TyperGroup):
    """The verbs; an interrupted one ends with exit code 130 and a line, before typer ends it without."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            goes_on = ": nothing finished is lost; the same command goes on" * (ctx.invoked_subcommand == "compare")
            _errors().print(f"\ninterrupted{goes_on}")
            raise typer.Exit(130) from None


app = typer.Typer(
    name="thalweg",
    cls=_Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("compare")(compare.command)
app.command("train")(train.command)
app.command("diagnose")(diagnose.command)
app.command("list")(listing.command)
app.command("report")(report.command)
app.command("export")(export.command)
app.command("serve")(serve.command)
app.command("sparse-code")(sparse_code.command)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Say which training strategy is best for your model, by how much, how surely and at what cost."""


def run() -> None:
    """Runs the command line; returns exit code 2 with one line for bad input, 130 when interrupted."""
    from thalweg.cli.processes import was_lost
    from thalweg.compare.store import StudyError

    errors = _errors()
    try:
        app()
    except (ValueError, StudyError) as error:
        errors.print(f"thalweg: {error}", style="red", markup=False)
        sys.exit(2)
    except RuntimeError as error:
        if not was_lost(error):
            raise
        errors.print("thalweg: another process was lost; with torchrun --max-restarts and --resume the run goes on")
        sys.exit(1)


def _errors() -> Console:
    from thalweg.cli.processes import speaks

    return Console(stderr=True, quiet=not speaks(), highlight=False, soft_wrap=True)
