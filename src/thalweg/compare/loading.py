"""From what the user writes to the object: built-in names, ``my.py:name``, ``package.module.Name``."""

import difflib
import importlib
import importlib.util
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from thalweg.compare.task import Task, TaskError


class LoadError(ValueError):
    """A name that leads nowhere; the message is one line with the cause and the mend."""


def load_object(spec: str) -> Any:
    """Returns the object that ``my.py:name``, ``package.module:name`` or ``package.module.name`` names.

    Raises:
        LoadError: no such file, module or name, or the file raises while it is read.

    >>> load_object("math.pi")
    3.141592653589793
    """
    module_name, _, attribute = spec.rpartition(":") if ":" in spec else spec.rpartition(".")
    if not module_name:
        raise LoadError(f"{spec!r} names no object: write my.py:name or package.module.name")
    module = _from_file(Path(module_name)) if module_name.endswith(".py") else _from_module(module_name)
    found = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), n=1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise LoadError(f"{module_name} has no {attribute!r}{hint}")
        found = getattr(found, part)
    return found


def load_task(spec: "str | Task") -> Task:
    """Returns the task that ``spec`` names, or is.

    Raises:
        LoadError: an unknown name; the message gives the nearest one.
        TaskError: what it names is no task, or raises.
    """
    if isinstance(spec, Task):
        return spec
    from thalweg.compare.tasks import DESCRIPTIONS, TASKS

    if spec in TASKS:
        return replace(TASKS[spec](), description=DESCRIPTIONS[spec])
    if ":" not in spec and "." not in spec:
        near = difflib.get_close_matches(spec, TASKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(TASKS)}; your own is my.py:task"
        raise LoadError(f"unknown task {spec!r}: {hint}")
    if spec.endswith(".py"):
        raise LoadError(f"{spec} names no task in the file: write {spec}:NAME, of what gives a thalweg.Task")
    found = load_object(spec)
    if callable(found) and not isinstance(found, Task):
        try:
            found = found()
        except ValueError as error:
            if isinstance(error, (TaskError, LoadError)):
                raise
            raise TaskError(f"{spec} raises {where(error)}") from error
        except Exception as error:
            raise TaskError(f"{spec} raises {where(error)}") from error
    if not isinstance(found, Task):
        raise TaskError(f"{spec} gives a {type(found).__name__}: return a thalweg.Task")
    return found


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise LoadError(f"there is no file {path}")
    name = f"_thalweg_user_{path.stem}"
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise LoadError(f"{path} raises {where(error)}") from error
    finally:
        sys.path.pop(0)
    return module


def _from_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        parent, _, child = name.rpartition(".")
        if parent:
            try:
                return getattr(_from_module(parent), child)
            except AttributeError:
                pass
        raise LoadError(f"cannot import {name} ({error}): is it installed?") from error


def where(error: BaseException) -> str:
    """Returns the kind of an error, its first line, and the place in the code where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {line[:200]} ({Path(frame.filename).name}, line {frame.lineno})"
