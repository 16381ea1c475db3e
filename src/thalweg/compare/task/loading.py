"""From what the user writes to the object: built-in names, ``my.py:name``, ``package.module.Name``."""

import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from thalweg.compare.task.loop import TrainingLoop, is_loop
from thalweg.compare.task.task import Task
from thalweg.compare.user_errors import LoadError, TaskError, user_errors
from thalweg.compare.user_files import beside, module_at
from thalweg.tensors.draws import own_draws

GENERAL = ("main", "train", "run")  # names of functions that tell nothing of the task, as that of their file does


def load_object(spec: str, here: Path | None = None) -> Any:
    """Returns the object that ``my.py:name``, ``package.module:name`` or ``package.module.name`` names.

    Arguments:
        spec: the name.
        here: folder that a relative path starts from; the current one by default.

    Raises:
        LoadError: no such file, module or name, or the file raises while it is read.

    >>> load_object("math.pi")
    3.141592653589793
    """
    module_name, _, attribute = spec.rpartition(":") if ":" in spec else spec.rpartition(".")
    if not module_name:
        raise LoadError(f"{spec!r} does not name an object: write my.py:name or package.module.name")
    here = here or Path.cwd()
    found = (_from_file if module_name.endswith(".py") else _from_module)(module_name, here)
    with user_errors(module_name, kind=LoadError):
        for part in attribute.split("."):
            if not hasattr(found, part):
                near = difflib.get_close_matches(part, dir(found), n=1)
                hint = f": did you mean {near[0]!r}?" if near else ""
                raise LoadError(f"{module_name} has no {attribute!r}{hint}")
            found = getattr(found, part)
    return found


def load_task(spec: "str | Task | TrainingLoop | Callable[..., Any]", here: Path | None = None) -> Task | TrainingLoop:
    """Returns the task or the training loop that ``spec`` names, or is; ``here`` as for :func:`load_object`.

    Raises:
        LoadError: an unknown name; the message gives the nearest one.
        TaskError: what it names is no task, or raises.
    """
    if isinstance(spec, (Task, TrainingLoop)):
        return spec
    if is_loop(spec):
        return TrainingLoop(spec)  # type: ignore[arg-type]
    if not isinstance(spec, str):
        raise LoadError(f"the task is a {type(spec).__name__}: give a thalweg.Task, the name of one, or my.py:task")
    from thalweg.compare.task.builtin import DESCRIPTIONS, TASKS

    if spec in TASKS:
        return replace(TASKS[spec](), description=DESCRIPTIONS[spec])
    if ":" not in spec and "." not in spec:
        near = difflib.get_close_matches(spec, TASKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(TASKS)}; your own is my.py:task"
        raise LoadError(f"unknown task {spec!r}: {hint}")
    if spec.endswith(".py"):
        raise LoadError(
            f"{spec} does not name a task in the file: write {spec}:NAME, where NAME is a function that returns a "
            "thalweg.Task"
        )
    found = load_object(spec, here)
    if is_loop(found):
        file, _, name = spec.rpartition(":")
        return TrainingLoop(found, name=Path(file).stem if name in GENERAL and file.endswith(".py") else "")
    if callable(found) and not isinstance(found, (Task, TrainingLoop)):
        with user_errors(spec), own_draws(0):  # so that what it draws is the same each time
            found = found()
    if not isinstance(found, (Task, TrainingLoop)):
        raise TaskError(f"{spec} gives a {type(found).__name__}: return a thalweg.Task, or name a function of a run")
    return found


def load_pairs(spec: "str | Task", verb: str, here: Path | None = None) -> Task:
    """Returns the task of pairs (input, target) that ``spec`` names, which ``thalweg VERB`` takes.

    Raises:
        TaskError: it has a step or a loop of its own; further as :func:`load_task`.
    """
    found = load_task(spec, here)
    if isinstance(found, TrainingLoop) or found.step is not None:
        what = "is a training loop" if isinstance(found, TrainingLoop) else "has a step of its own"
        raise TaskError(f"{spec} {what}, and thalweg {verb} takes tasks with a loss (output, target): use compare")
    return found


def _from_file(name: str, here: Path) -> Any:
    if not os.path.isfile(here / name):  # False too where the name is too long
        raise LoadError(f"there is no file {name}")
    with user_errors(name, kind=LoadError), own_draws(0):
        return module_at((here / name).resolve())


def _from_module(name: str, here: Path) -> Any:
    top = name.partition(".")[0]
    if top not in sys.modules and importlib.util.find_spec(top) is None:
        beside(here)
    try:
        with user_errors(name, kind=LoadError):
            return importlib.import_module(name)
    except LoadError as error:
        if not isinstance(error.__cause__, ImportError):
            raise
        parent, _, child = name.rpartition(".")
        if parent:
            try:
                return getattr(_from_module(parent, here), child)
            except AttributeError:
                pass
        raise LoadError(f"cannot import {name} ({error.__cause__}): is it installed?") from error
