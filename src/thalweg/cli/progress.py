"""Live progress of a study and of training: a bar, the time left, the current standing or the last row."""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from thalweg.compare.study.reporter import Reporter
from thalweg.training.history import Row

REDRAW = 0.1  # seconds


def _bar(unit: str, *more: ProgressColumn, **options: Any) -> Progress:
    """Returns a bar of what is done, in units, with the time taken and left."""
    done = TextColumn("{task.description}", style="bold", markup=False), BarColumn(), MofNCompleteColumn()
    times = TextColumn(unit), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()
    return Progress(*done, *times, *more, **options)


class LiveReporter(Reporter, AbstractContextManager["LiveReporter"]):
    """Shows how a study goes on a terminal; prints a line a stage where there is none."""

    def __init__(self, console: Console, higher_is_better: bool | None = None) -> None:
        self.console = console
        self.bar = _bar("trial-steps", console=console)
        self.task = self.bar.add_task("setting up", total=None)
        self.line = Text("")
        self.live = Live(Group(self.bar, self.line), console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "LiveReporter":
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        self.console.print(line, highlight=False, markup=False)

    def stage(self, title: str, steps: int, left: int) -> None:
        """A stage begins."""
        done = self.bar.tasks[0].completed
        self.bar.update(self.task, description=title, total=done + left)
        if not self.console.is_terminal:
            self.say(f"{title}: {steps:,} trial-steps")

    def advance(self, steps: int) -> None:
        """Trial-steps were done."""
        self.bar.advance(self.task, steps)

    def standing(self, best: Mapping[str, float]) -> None:
        """Shows the best validation metric of each strategy so far."""
        parts = [f"{name} {value:.4g}" for name, value in best.items()]
        self.line.plain = "validation so far: " + "  ".join(parts)
        self.live.update(Group(self.bar, self.line))


class LiveTraining(AbstractContextManager["LiveTraining"]):
    """Shows how training goes on a terminal; prints a line a row where there is none."""

    def __init__(self, console: Console) -> None:
        self.console, self._waiting, self._drawn = console, 0, 0.0
        row = TextColumn("{task.fields[row]}", markup=False)
        self.bar = _bar("steps", row, console=console, transient=True, disable=not console.is_terminal)
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
