"""Live progress of a study: bar, time left, current standing."""

from collections.abc import Mapping
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text


class LiveReporter:
    """Shows how a study goes on a terminal; prints a line a stage where there is none."""

    def __init__(self, console: Console, higher_is_better: bool | None = None) -> None:
        self.console = console
        self.bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("trial-steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
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
