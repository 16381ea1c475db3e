"""What is wrong with a study's file, in one line: refused by the system, or damaged."""

import sqlite3
from pathlib import Path

from thalweg.compare.user_errors import StudyError

# What SQLite reports where the system refuses, whatever is in the file; CUT is the exception: a file that is too short.
_REFUSALS = "PERM BUSY LOCKED NOMEM READONLY IOERR FULL CANTOPEN PROTOCOL NOLFS AUTH"
REFUSED = [getattr(sqlite3, f"SQLITE_{name}") for name in _REFUSALS.split()]
CUT = sqlite3.SQLITE_IOERR_SHORT_READ


def cannot_write(folder: Path, error: Exception) -> StudyError:
    """Returns the error for a folder that cannot be written to."""
    return StudyError(f"cannot write to {folder} ({error}): choose a writable folder with --out")


def fault(path: Path, error: Exception, write: bool = False) -> StudyError:
    """Returns the error that says what is wrong: what is refused by the system is no damage of the file."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, (OSError, MemoryError)) or (code is not None and code & 0xFF in REFUSED and code != CUT):
        what, remedy = "read", "check its permissions and the disk"
        if write:
            what, remedy = "write to", "free some space or choose another --out"
        return StudyError(f"cannot {what} {path} ({error}): {remedy}")
    return damaged(path, error)


def damaged(path: Path, why: object) -> StudyError:
    """Returns the error that says so."""
    return StudyError(f"{path} is damaged or not a study ({why}): restore it, or choose another --out")
