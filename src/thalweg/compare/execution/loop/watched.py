"""The steps that a training loop of the user's own takes: what their optimizer does is told from what the loop does."""

from collections.abc import Callable
from typing import Any

from thalweg.compare.execution.cannot_run import CannotRun, by_optimizer


def watch(optimizer: Any, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Has an optimizer call two functions around each ``step()``, and raise :class:`CannotRun` for its own errors.

    A step that evaluates its closure several times raises it too, since the loop is charged one evaluation a batch.
    """
    step = optimizer.step

    def watched(closure: Callable[[], Any] | None = None, **more: Any) -> Any:
        before()
        raised, calls = list[BaseException](), 0

        def counted() -> Any:
            nonlocal calls
            calls += 1
            try:
                return closure() if closure is not None else None
            except Exception as error:
                raised.append(error)
                raise

        with by_optimizer(own=raised):
            found = step(**more) if closure is None else step(counted, **more)
        if calls > 1:
            raise CannotRun(
                f"evaluates the gradient {calls} times in a step, and a training loop counts one a batch: compare it "
                "by thalweg.Task(step=...)"
            )
        after()
        return found

    optimizer.step = watched
