"""Tensors and texts in files: written whole or not at all, and read without running anything that the file says."""

import errno
import os
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import torch


class FileError(ValueError):
    """A file that cannot be used as asked; the message is one line with the cause and the remedy."""


def write_whole(state: Any, path: Path) -> None:
    """Writes tensors, numbers, strings, lists and dictionaries; a cut at any moment leaves the file as it was.

    Raises:
        FileError: it cannot be written.
    """
    with _whole(path) as file:
        torch.save(state, file)


def write_text(text: str, path: Path) -> None:
    """Writes a text as UTF-8; a cut at any moment leaves the file as it was, and so does a file that holds it already.

    Raises:
        FileError: it cannot be written.
    """
    raw = text.encode(errors="backslashreplace")
    with suppress(OSError):
        if path.read_bytes() == raw:
            return
    with _whole(path) as file:
        file.write(raw)


def check_writable(path: Path) -> None:
    """Raises FileError where a file cannot be written at the path; what is there stays."""
    check_utf8(path)
    partial = _partial(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        partial.open("wb").close()
        partial.unlink()
    except OSError as error:
        raise _refused(path, error) from error


def check_utf8(path: Path) -> None:
    """Raises FileError where the path is no text, and could be neither printed nor put into a report."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise FileError(f"cannot write {str(path)!a} (no UTF-8): choose another name") from error


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """Yields a file that takes the place of ``path`` once it is written."""
    partial = _partial(path)
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch's writer hides it in its own
        if not isinstance(cause, OSError):
            raise
        raise _refused(path, cause) from error
    finally:
        with suppress(OSError):  # a folder that cannot be written refuses even to remove what is not there
            partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def _partial(path: Path) -> Path:
    """Returns where a file is written, whose name is no longer than a file's may be."""
    return path.with_name(f".{path.name[:50]}.{os.getpid()}")


def is_partial(path: Path) -> bool:
    """Says whether a file is one that is being written, or that a kill left so."""
    return re.fullmatch(r"\..+\.\d+", path.name) is not None


def _refused(path: Path, error: OSError) -> FileError:
    return FileError(f"cannot write {path} ({error.strerror}): choose another place, or free some space")


def sync_folder(folder: Path) -> None:
    """Sees to it that new names in a folder outlive a power cut, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        with suppress(PermissionError):  # a folder that may be written but not read
            file = os.open(folder, os.O_DIRECTORY)
            try:
                os.fsync(file)
            except OSError as error:
                if error.errno != errno.EINVAL:  # a file system that has no such thing
                    raise
            finally:
                os.close(file)


def read_safely(path: Path) -> Any:
    """Returns what a file of ``torch.save`` holds, on the CPU, as far as it is tensors, numbers, strings and such.

    Raises:
        FileError: no such file; one that is cut short, damaged, or holds anything that would have to be run.

    >>> read_safely(Path("nowhere.pt"))
    Traceback (most recent call last):
    thalweg.tensors.files.FileError: the file nowhere.pt does not exist
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FileError(f"the file {path} does not exist") from None
    except Exception as error:  # bytes at random bring up errors of every kind in torch's reader
        why = (
            "it is truncated or damaged"
            if not isinstance(error, pickle.UnpicklingError)
            else "it is not a file of tensors"
        )
        raise FileError(
            f"{path} cannot be read as tensors: {why}, or it contains code, which is never run; save a state_dict() "
            "with torch.save, or choose another file"
        ) from error
