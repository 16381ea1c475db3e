"""One writer a folder: a lock that the system lets go when its holder ends, however it ends."""

import os
import weakref
from pathlib import Path


class FolderLock:
    """Holds the folder against every other process, and every other lock of this one, until it is released.

    The folder itself is locked, so that no file is left behind. Processes that are forked from this one do not hold
    it, so that loader workers which outlive it for a while keep nobody out. Where the system knows no such lock, or the
    folder lies on a network drive that does not, nothing is held.

    Raises:
        BlockingIOError: another holds it.
        OSError: the folder cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._file: int | None = None
        try:
            import fcntl
        except ImportError:
            return
        self._file = os.open(folder, os.O_RDONLY)
        _held.add(self)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise
        except OSError:  # a file system without locks
            self.release()

    def release(self) -> None:
        """Lets others have the folder."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


_held: "weakref.WeakSet[FolderLock]" = weakref.WeakSet()


def _let_go() -> None:
    """Closes what a forked process has of the locks, which its parent goes on holding."""
    for lock in _held:
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
