"""``thalweg``: entry point; one line and exit code 2 for whatever the user can correct."""

import atexit
import signal
import sys
import traceback
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from thalweg import __version__
from thalweg.cli import (
    compare,
    diagnose,
    ending,
    export,
    gate,
    init,
    listing,
    report,
    serve,
    sparse_code,
    suite,
    train,
    watch,
)
from thalweg.cli.console import Terminal
from thalweg.cli.ending import PIPE, Interrupted, OutputError, Terminated, exit_reported, output, raised_by
from thalweg.cli.processes import is_main_process, was_lost
from thalweg.compare.user_errors import Stopped, StudyError, TaskError, brief, describe_error

UsageError: Any = typer.BadParameter.__base__  # of the click that typer has
GOES_ON = {
    "compare": ": no finished trial is lost, and the same command resumes the study",
    "suite": ": no finished trial is lost, and the same command resumes the study",
    "gate": ": no finished run is lost, and the same command resumes the gate",
}


class _Verbs(TyperGroup):
    """The verbs; an interruption, or an exit by the user's code, is reported in a line."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Interrupted:
            _errors().print(f"\ninterrupted{GOES_ON.get(ctx.invoked_subcommand, '')}")
            raise typer.Exit(130) from None
        except Terminated:
            _errors().print(f"terminated{GOES_ON.get(ctx.invoked_subcommand, '')}")
            raise typer.Exit(143) from None
        except (Exception, Stopped):
            raise
        except BaseException as error:  # thalweg raises none of these
            raise TaskError(f"the user's code {describe_error(error)}: correct it") from error


app = typer.Typer(
    name="thalweg",
    cls=_Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.command)
app.command("compare")(compare.command)
app.command("suite")(suite.command)
app.command("gate")(gate.command)
app.command("train")(train.command)
app.command("diagnose")(diagnose.command)
app.command("list")(listing.command)
app.command("report")(report.command)
app.command("export")(export.command)
app.command("serve")(serve.command)
app.command("watch")(watch.command)
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
    """Find out which training strategy is best for your model, by how much, with what confidence and at what cost."""


def run() -> None:
    """Runs the command line; ends with its exit code, which for whatever the user can correct is 2, after one line."""
    code = _code(_errors())
    atexit.register(ending.keep_exit_code, code)  # goes before what the user's code has registered
    sys.exit(code)


def _code(errors: Terminal) -> int:
    def fault(line: object) -> int:
        with suppress(OSError):
            errors.print("thalweg:", " ".join(str(line).split("\n")), style="red", markup=False)
        return 2

    try:
        with raised_by(signal.SIGINT, Interrupted), exit_reported(fault, 2), output():
            return app(standalone_mode=False) or 0
    except UsageError as error:
        return fault(error.format_message()) if str(error) else 2  # without a command it has shown the help
    except OutputError as error:
        return PIPE if error.quiet else fault(error)
    except (ValueError, StudyError, RuntimeError) as error:
        if was_lost(error.__cause__ if isinstance(error, TaskError) else error):
            errors.print(
                "thalweg: another process was lost; with torchrun --max-restarts and --resume, the run continues"
            )
            return 1
        if isinstance(error, RuntimeError):
            return fault(_own(error))
        return fault(error)
    except OSError as error:
        return fault(f"{error.filename or 'a file'} cannot be used ({error.strerror or error}): choose another file")
    except Exception as error:
        return fault(_own(error))


def _own(error: Exception) -> str:
    """Prints the traceback of what is thalweg's own fault; returns the line that says so."""
    traceback.print_exception(error)
    return f"{brief(error)}: this is an error in thalweg itself; please report it with the lines above"


def _errors() -> Terminal:
    return Terminal(stderr=True, quiet=not is_main_process(), highlight=False, soft_wrap=True)
