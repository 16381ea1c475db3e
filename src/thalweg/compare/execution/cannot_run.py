"""What becomes of a strategy whose optimizer cannot train the model: a result of its own, and not the study's end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from thalweg.compare.execution.plain import NotPlain
from thalweg.compare.user_errors import Stopped, brief


class CannotRun(Stopped):
    """A strategy cannot train the model; no ``except Exception`` of the user's holds it up.

    The message is one line that says what the strategy does, without its name.
    """

    def refusal(self, strategy: str) -> ValueError:
        """Returns the error for a study that has nothing else to run."""
        return ValueError(f"strategy {strategy!r} {self}")


def changes_its_rate(schedule: str) -> CannotRun:
    """Returns what is raised where an optimizer sets the learning rate that a schedule sets too."""
    return CannotRun(
        f"changes its own learning rate, and so does the schedule {schedule!r}: compare it without a schedule"
    )


@contextmanager
def by_optimizer(does: str = "cannot step this model", own: Sequence[BaseException] = ()) -> Iterator[None]:
    """Runs its body, which runs the code of a strategy's optimizer.

    Arguments:
        does: what the strategy does where that raises an error.
        own: errors that come from elsewhere, such as the user's loss.

    Raises:
        CannotRun: the body raises any other error.

    >>> with by_optimizer():
    ...     raise RuntimeError("No CUDA GPUs are available")
    Traceback (most recent call last):
    thalweg.compare.execution.cannot_run.CannotRun: cannot step this model (RuntimeError: No CUDA GPUs are available)
    """
    try:
        yield
    except Exception as error:
        if any(error is other for other in own):
            raise
        raise CannotRun(f"{does}: {error}" if isinstance(error, NotPlain) else f"{does} ({brief(error)})") from error
