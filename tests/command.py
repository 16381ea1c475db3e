"""The command in a process of its own, forked off one that has imported torch before."""

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from subprocess import CompletedProcess

from tests.waiting import LONG

FORKS = multiprocessing.get_context("forkserver")


def command(*words, cwd=None, columns=200, out=None):
    """Runs ``thalweg`` with these words, and returns its exit code and what it wrote.

    ``out`` is a file that standard output goes to instead.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1"}
        process = FORKS.Process(target=_run, args=(words, str(cwd or Path.cwd()), environment, folder, out))
        process.start()
        process.join(LONG)
        printed, errors = (path.read_text() if path.exists() else "" for path in map(Path(folder).joinpath, "oe"))
        return CompletedProcess(words, process.exitcode, printed, errors)


def _run(words, cwd, environment, folder, out):
    for descriptor, path in ((1, out or f"{folder}/o"), (2, f"{folder}/e")):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["thalweg", *words]
    from thalweg.cli.main import run

    run()
