"""``--json``, ``--quiet``, ``NO_COLOR`` and exit codes are the same for all verbs, as the page for scripts says."""

import ast
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_commands import USER
from tests.command import command, script
from tests.schemas import NAMES, printed, schema
from thalweg.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "scripts.md").read_text(encoding="utf-8")
CLI = Path(main.__file__).parent
# The verbs of the command, and the function that each calls.
VERBS = {
    node.args[0].id if isinstance(node.args[0], ast.Name) else node.args[0].value.id: node.func.args[0].value
    for node in ast.walk(ast.parse(Path(main.__file__).read_text(encoding="utf-8")))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Call) and ast.unparse(node.func.func) == "app.command"
}
NO_RESULT = {"serve"}  # it shows studies until it is stopped
RESULT = ["--out", "o", "--json", "-q"]
LOUD = "import my\nprint('NOISE')\n\ndef task():\n    print('NOISE')\n    return my.task()\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("json")
    (path / "my.py").write_text(USER)
    (path / "loud.py").write_text(LOUD)
    np.save(path / "a.npy", np.random.default_rng(0).normal(size=(30, 6)))
    small = ["--trials", "1", "--steps", "6", "--seeds", "2", "--engine", "serial", "--device", "cpu"]
    done = command(
        "compare", "loud.py:task", "--strategies", "sgd,adam", *small, "--out", "o", "--json", "-q", cwd=path
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.split()) == {"NOISE"}  # the user's own
    printed("compare", done.stdout)
    return path


WORDS = {
    "train": ["train", "loud.py:task", "--steps", "4", "--device", "cpu", "--out", "t"],
    "diagnose": ["diagnose", "loud.py:task"],
    "list": ["list"],
    "report": ["report", "o", "--to", "r"],
    "export": ["export", "o"],
    "watch": ["watch", "o"],
    "sparse-code": ["sparse-code", "a.npy", "--atoms", "4", "--epochs", "1", "--out", "s"],
    "init": ["init", "--out", "new.py"],
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", WORDS)
def test_json_alone_is_printed_and_is_what_the_schema_says(verb, folder):
    done = command(*WORDS[verb], "--json", "--quiet", cwd=folder)
    assert done.returncode == 0, done.stderr
    found = printed("compare" if verb == "report" else verb, done.stdout)
    assert set(done.stderr.split()) <= {"NOISE"}
    files = {"train": "t/history.json", "report": "o/results.json"}
    if verb in files:
        assert found == json.loads((folder / files[verb]).read_text())


@pytest.mark.slow
def test_quiet_prints_the_result_alone(folder):
    words = ["train", "my.py:task", "--steps", "4", "--device", "cpu", "--out"]
    loud, quiet = command(*words, "t1", cwd=folder), command(*words, "t2", "-q", cwd=folder)
    assert loud.returncode == quiet.returncode == 0
    result = loud.stdout.splitlines()[-2:]
    assert quiet.stdout.splitlines() == [line.replace("t1", "t2") for line in result]
    assert len(loud.stdout.splitlines()) > 2
    study = ["compare", "my.py:task", "--strategies", "sgd", "--trials", "1", "--steps", "6", "--seeds", "2"]
    done = command(*study, "--engine", "serial", "--out", "q", "--quiet", cwd=folder)
    assert "gradient evaluations per strategy" in done.stdout.splitlines()[0]
    assert "\nreport: q/report.html\n" in done.stdout


ALL = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from thalweg.cli.main import run

found = {}
for verb in json.loads(sys.argv[1]):
    for words in ([verb, "--no-such-option"], [verb, "--help"]):
        sys.argv = ["thalweg", *words]
        sys.stderr = errors = io.StringIO()
        shown = io.TextIOWrapper(io.BytesIO())
        with redirect_stdout(shown):
            try:
                run()
            except SystemExit as end:
                shown.seek(0)
                found[" ".join(words)] = [end.code or 0, errors.getvalue(), shown.read()]
json.dump(found, sys.__stdout__)
"""


def test_every_verb_has_the_options_and_exits_as_the_page_says(tmp_path):
    done = script(ALL, json.dumps(list(VERBS.values())), cwd=tmp_path, FORCE_COLOR="1", NO_COLOR="1", COLUMNS="200")
    found = json.loads(done.stdout)
    assert len(found) == 2 * len(VERBS) > 20
    codes = re.search(r"\*\*Exit codes\*\*.*?\n\n", PAGE, re.S)[0]
    for function, verb in VERBS.items():
        code, errors, _ = found[f"{verb} --no-such-option"]
        assert (code, errors.count("\n")) == (2, 1), verb
        code, errors, shown = found[f"{verb} --help"]
        assert (code, errors) == (0, ""), verb
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", shown), f"{verb} has colours in spite of NO_COLOR"
        shown = re.sub(r"\x1b\[[0-9;]*m", "", shown)
        assert "--quiet" in shown, verb
        assert ("--json" in shown) == (verb not in NO_RESULT), verb
        source = ast.parse((CLI / f"{function}.py").read_text(encoding="utf-8"))
        text = next(ast.get_docstring(n) for n in source.body if isinstance(n, ast.FunctionDef) and n.name == "command")
        named = re.search(r"Exit codes: .*", text, re.S)[0]
        for code in re.findall(r"\b\d+\b", named):
            assert re.search(rf"\b{code}\b", codes), (verb, code)


def test_every_verb_with_a_result_has_a_schema_that_the_page_links():
    verbs = set(VERBS.values()) - NO_RESULT
    assert set(NAMES) == verbs - {"report"}  # which prints what compare does
    linked = re.findall(r"^\| `thalweg ([\w-]+) .*\]\(schemas/([\w-]+)\.json\)", PAGE, re.M)
    assert dict(linked) == {verb: "compare" if verb == "report" else verb for verb in verbs}


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_one(name):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema(name))
    assert schema(name)["title"].startswith("What thalweg ")


def test_export_as_json_is_no_other_format(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["thalweg", "export", str(folder / "o"), "--json", "--format", "parquet"])
    with pytest.raises(SystemExit) as end:
        main.run()
    assert end.value.code == 2
    assert "--json is --format json, and not parquet" in capsys.readouterr().err
