"""The command, or a script, in a process of its own, forked off one that has imported torch before."""

import multiprocessing
import os
import signal
import sys
import tempfile
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType

import tests.no_accelerator  # noqa: F401
from tests.waiting import LONG

FORKS = multiprocessing.get_context("forkserver")


def command(*words, cwd=None, columns=200, out=None, before=None, **environment):
    """Runs ``thalweg`` with these words, and returns its exit code and what it wrote.

    ``out`` is a file that standard output goes to instead; ``before`` is called in the new process.
    """
    return _forked(_run, words, cwd, {"COLUMNS": str(columns), "NO_COLOR": "1", **environment}, out, before)


def script(text, *words, cwd=None, **environment):
    """Runs the text as ``python -c`` does, and returns its exit code and what it wrote."""
    return _forked(_exec, (text, *words), cwd, environment)


def _forked(does, words, cwd, environment, out=None, before=None):
    with tempfile.TemporaryDirectory() as folder:
        arguments = does, words, str(cwd or Path.cwd()), {**os.environ, **environment}, folder, out, before
        process = FORKS.Process(target=_in_its_place, args=arguments)
        process.start()
        process.join(LONG)
        printed, errors = (path.read_text() if path.exists() else "" for path in map(Path(folder).joinpath, "oe"))
        return CompletedProcess(words, process.exitcode, printed, errors)


def _in_its_place(does, words, cwd, environment, folder, out, before):
    for descriptor, path in ((1, out or f"{folder}/o"), (2, f"{folder}/e")):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where these tests run in the background
    if before:
        before()
    does(*words)


def _run(*words):
    sys.argv = ["thalweg", *words]
    from thalweg.cli.main import run

    run()


def _exec(text, *words):
    sys.argv = ["-c", *words]
    sys.path.insert(0, "")
    sys.modules["__main__"] = main = ModuleType("__main__")
    exec(compile(text, "<string>", "exec"), main.__dict__)
