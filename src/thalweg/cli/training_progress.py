"""Live progress of training: a bar of steps, time left, the last row of the history."""

import time
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from thalweg.training.history import Row

REDRAW = 0.1  # seconds


class LiveTraining(AbstractContextManager["LiveTraining"]):
    """Shows how training goes on a terminal; prints a line a row where there is none."""

    def __init__(self, console: Console) -> None:
        self.console, self._waiting, self._drawn = console, 0, 0.0
        self.bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[row]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("setting up", total=None, row="")

    def __enter__(self) -> "LiveTraining":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def stage(self, name: str, done: int, total: int) -> None:
        """A stage begins or is resumed."""
        self.bar.update(self.task, description=name, completed=done, total=total)
        if done:
            self.console.print(f"resumed at step {done:,} of {total:,}", markup=False, highlight=False)

    def advance(self) -> None:
        """A step was taken; it is shown with others."""
        self._waiting += 1
        now = time.monotonic()
        if now - self._drawn > REDRAW:
            self.bar.advance(self.task, self._waiting)
            self._waiting, self._drawn = 0, now

    def row(self, row: Row) -> None:
        """The history has a new row."""
        shown = {name: value for name, value in row.items() if name not in ("stage", "step", "epoch", "seconds", "lr")}
        text = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in shown.items())
        self.bar.update(self.task, row=text)
        if not self.console.is_terminal:
            self.console.print(f"step {row['step']}: {text}", markup=False, highlight=False, soft_wrap=True)
