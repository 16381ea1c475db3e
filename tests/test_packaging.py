"""What is shipped: the wheel and the source distribution, the image, the recipe of conda, and the notebook."""

import ast
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from jinja2 import Environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.command import script
from thalweg import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOTEBOOK = json.loads((ROOT / "examples" / "thalweg.ipynb").read_text(encoding="utf-8"))
BUILD = "import sys; from setuptools import build_meta as b; out = sys.argv[1]; b.build_wheel(out); b.build_sdist(out)"


@pytest.mark.slow
def test_wheel_and_source_distribution_hold_the_licence_and_all_that_the_package_reads(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    out.mkdir()
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", ".*"))
    done = subprocess.run([sys.executable, "-c", BUILD, str(out)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wheel = set(zipfile.ZipFile(next(out.glob("*.whl"))).namelist())
    with tarfile.open(next(out.glob("*.tar.gz"))) as archive:
        sdist = {name.partition("/")[2] for name in archive.getnames()}
    for name in PROJECT["license-files"]:
        assert f"thalweg-{__version__}.dist-info/licenses/{name}" in wheel
        assert name in sdist
    assert {"README.md", "pyproject.toml"} <= sdist
    files = [path.relative_to(source / "src") for path in (source / "src" / "thalweg").rglob("*") if path.is_file()]
    for path in files:
        if path.name == "ruff.toml":  # how the templates are checked
            continue
        assert path.as_posix() in wheel
        assert f"src/{path.as_posix()}" in sdist
    assert "thalweg/cli/starters/templates/vision.py" in wheel
    assert {name.split("/")[0] for name in wheel} == {"thalweg", f"thalweg-{__version__}.dist-info"}


def test_the_image_is_built_of_files_that_exist_and_starts_the_command():
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    words = {word for word, _ in lines}
    assert words == {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "ENTRYPOINT"}
    assert lines[0] == ["FROM", "python:3.12-slim"]
    assert SpecifierSet(PROJECT["requires-python"]).contains("3.12")
    assert json.loads(lines[-1][1]) == ["thalweg"]
    copied = [name for word, rest in lines if word == "COPY" for name in rest.split()[:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1] == "*"
    assert sorted(copied) == sorted(line[1:] for line in ignored if line.startswith("!"))
    needed = {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "src"}
    assert {name for name in needed if name.split("/")[0] not in copied} == set()
    installed = [shlex.split(rest) for word, rest in lines if word == "RUN" and "pip install" in rest]
    assert installed[-1][-1] == ".[compare]"
    assert "https://download.pytorch.org/whl/cpu" in installed[0]
    for done in installed:
        assert done[done.index("--constraint") + 1] == "constraints.txt"
    assert "constraints.txt" in copied


def test_the_recipe_of_conda_asks_for_what_the_package_does():
    folder = ROOT / "conda.recipe"

    def found_in(load_file, regex_pattern, from_recipe_dir):
        return re.search(regex_pattern, (folder / load_file).read_text(encoding="utf-8"))

    text = (folder / "meta.yaml").read_text(encoding="utf-8")
    recipe = yaml.safe_load(Environment().from_string(text).render(load_file_regex=found_in, PYTHON="python"))
    assert recipe["package"] == {"name": "thalweg", "version": __version__}
    asked = [Requirement(line) for line in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["compare"])]
    wanted = {{"torch": "pytorch"}.get(r.name, r.name): r.specifier for r in asked}
    given = [line.split(" ", 1) for line in recipe["requirements"]["run"]]
    assert {name: SpecifierSet(versions) for name, versions in given} == wanted | {
        "python": SpecifierSet(PROJECT["requires-python"])
    }
    assert recipe["build"]["entry_points"] == [f"{name} = {call}" for name, call in PROJECT["scripts"].items()]
    assert (ROOT / recipe["about"]["license_file"]).exists()
    assert recipe["about"]["license"] == PROJECT["license"]


def code_cells():
    return ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_one_and_installs_what_it_runs():
    if importlib.util.find_spec("nbformat"):
        import nbformat

        nbformat.validate(nbformat.from_dict(NOTEBOOK))
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in NOTEBOOK["cells"]:
        assert set(cell) - {"execution_count", "outputs"} == {"cell_type", "id", "metadata", "source"}
        assert cell.get("outputs", []) == []
    first, *rest = code_cells()
    assert first == '%pip install --quiet "thalweg[compare]"'
    for text in rest:
        ast.parse(text)
    told = "".join(line for cell in NOTEBOOK["cells"] for line in cell["source"])
    for page in re.findall(r"thalweg\.github\.io/thalweg/([\w-]+)\.html", told):
        assert (ROOT / "docs" / f"{page}.md").exists()
    assert "blob/main/examples/thalweg.ipynb" in told


SHOWN = """
import sys, types
display = types.ModuleType("IPython.display")
display.HTML = lambda text: print(text[:60], text.count("&lt;"))
sys.modules["IPython"], sys.modules["IPython.display"] = types.ModuleType("IPython"), display
"""


@pytest.mark.slow
def test_the_cells_of_the_notebook_run(tmp_path):
    text, replaced = re.subn(
        r"^OPTIONS = .*$",
        'OPTIONS = {"trials": 1, "seeds": 2, "steps": 6, "engine": "serial"}',
        "\n".join(code_cells()[1:]),
        flags=re.M,
    )
    assert replaced == 1
    done = script(SHOWN + text, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "No verdict: it takes at least" in done.stdout
    assert '<iframe srcdoc="&lt;!doctype html' in done.stdout.replace("DOCTYPE", "doctype")
    assert (tmp_path / "thalweg-notebook" / "results.json").exists()
