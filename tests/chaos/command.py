"""``thalweg`` as a process that is begun at once: forked from one that has imported torch, but trained nothing."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import tests.no_accelerator  # noqa: F401
from tests.waiting import until
from thalweg.cli import main
from thalweg.compare.study import result_writer

for _name in ("torch._dynamo", "thalweg.compare.run", "thalweg.compare.report"):  # which every command would load anew
    import_module(_name)

VICTIM = Path(__file__).with_name("victim.py")
STUDY = ["--trials", "4", "--steps", "45", "--seeds", "2"]


@dataclass
class Process:
    """A running command."""

    pid: int
    errors: Path
    code: int | None = None

    def poll(self) -> bool:
        """Says whether it has ended."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def wait(self) -> int:
        """Returns the exit code."""
        until(self.poll)
        assert self.code is not None
        return self.code

    def signal(self, number: int) -> None:
        """Sends a signal and waits for the end."""
        if not self.poll():
            os.kill(self.pid, number)
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    @property
    def said(self) -> str:
        """What it wrote to standard error."""
        return self.errors.read_text(errors="replace")

    @property
    def line(self) -> bool:
        """Says whether it ended as for bad input: code 2 and one line."""
        said = [text for text in self.said.splitlines() if text.startswith("thalweg: ")]
        return self.code == 2 and len(said) == 1 and "Traceback" not in self.said


def start(
    folder: Path,
    engine: str = "serial",
    task: str = "task",
    strategies: str = "sgd,adam",
    more: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> Process:
    """Begins ``thalweg compare`` on the victim, in the folder; ``before`` runs in the new process."""
    errors = folder.parent / f"{folder.name}.errors"
    words = ["compare", f"{VICTIM}:{task}", "--strategies", strategies, *STUDY, "--engine", engine, *more]
    pid = os.fork()
    if pid:
        return Process(pid, errors)
    code = 1
    try:
        sys.argv = ["thalweg", *words, "--out", str(folder)]
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.environ.update(environment or {})
        result_writer.PAUSE = 0.0  # each trial is written by itself, as those of a longer study are
        if before:
            before()
        main.run()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
