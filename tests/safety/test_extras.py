"""The core alone: every room but the command's imports with torch, numpy, scipy and safetensors; the rest is a line."""

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
SCRIPT = """
import json, pkgutil, runpy, sys
from contextlib import redirect_stderr
from importlib import import_module
from io import StringIO
sys.modules |= dict.fromkeys(json.loads(sys.argv[1]))  # importing any of these fails

import thalweg
from thalweg.extras import MissingExtraError

def line_of(run):
    try:
        run()
    except MissingExtraError as error:
        return str(error)

def command():
    errors = StringIO()
    with redirect_stderr(errors):
        try:
            runpy.run_module("thalweg", run_name="__main__")
        except SystemExit as end:
            return [end.code, errors.getvalue()]

core = lambda name: name.split(".")[1] not in ("cli", "serve", "compare", "__main__")
names = [m.name for m in pkgutil.walk_packages(thalweg.__path__, "thalweg.", lambda name: None) if core(m.name)]
names.remove("thalweg.coordinate.pivoting")  # tried and left, where there is no numba
json.dump({
    "modules": {name: line_of(lambda: import_module(name)) for name in names},
    "an estimator": line_of(lambda: thalweg.coordinate.SparseCoder),
    "a figure": line_of(lambda: thalweg.coordinate.plot_atoms([[1.0]])),
    "a report": line_of(lambda: thalweg.compare()),
    "this task": line_of(import_module("thalweg.compare.task.builtin.digits").digits),
    "--engine ray": line_of(import_module("thalweg.compare.execution.ray.engines").Cluster),
    "thalweg.adapters.transformers": line_of(lambda: thalweg.adapters.transformers(None, [], [])),
    "command": command(),
}, sys.stdout)
"""


def extras():
    """Returns the names that the extras' packages are imported by, those of the core apart."""
    lines = (line for extra in PROJECT["optional-dependencies"].values() for line in extra)
    asked = {canonicalize_name(Requirement(line).name) for line in lines}
    core = {"thalweg", *(canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"])}
    homes = metadata.packages_distributions().items()
    return sorted(name for name, owners in homes if {canonicalize_name(o) for o in owners} & (asked - core))


@pytest.fixture(scope="module")
def alone():
    command = [sys.executable, "-c", SCRIPT, json.dumps(extras())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_room_imports_and_the_estimators_modules_alone_do_not(alone):
    assert {"sklearn", "typer", "rich", "plotly", "jinja2", "pooch", "numba", "PIL"} <= set(extras())
    failed = {name.removeprefix("thalweg.coordinate.") for name, line in alone["modules"].items() if line}
    assert failed == {"coder", "dictionary_learning", "learning", "minibatch", "scikit_learn", "sparse_coder"}
    assert len(alone["modules"]) > 200


EXTRAS = {"--engine ray": "ray", "thalweg.adapters.transformers": "transformers"}


@pytest.mark.parametrize("what", ["an estimator", "a figure", "a report", "this task", *EXTRAS])
def test_what_lacks_an_extra_names_the_command_that_installs_it(alone, what):
    extra = EXTRAS.get(what, "compare")
    assert alone[what].startswith(f"{what} needs more packages (")
    assert alone[what].endswith(f"): pip install 'thalweg[{extra}]'")


def test_the_command_without_its_packages_is_one_line_and_exit_code_2(alone):
    code, errors = alone["command"]
    assert code == 2
    assert errors.startswith("thalweg: the command thalweg needs more packages (")
    assert errors.endswith("): pip install 'thalweg[compare]'\n")
    assert errors.count("\n") == 1
