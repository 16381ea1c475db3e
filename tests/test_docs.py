"""The documentation holds: its links lead somewhere, and what the guide tells a user to write runs."""

import re
import shutil
import sys
from pathlib import Path

import pytest

import thalweg
from docs import layers
from tests.command import command, script
from thalweg.cli.main import app
from thalweg.rules import Adam

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md"))]
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")


def anchor(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https:"):
            continue
        path, _, heading = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.M)
            assert heading in [anchor(h) for h in headings], target


def test_the_drawing_of_the_layers_is_made_from_the_code_as_it_is():
    assert layers.PICTURE.read_text(encoding="utf-8") == layers.drawing(), "python -m docs.layers draws it anew"


def test_the_path_of_a_trial_is_the_one_that_the_architecture_page_lists(tmp_path, capsys):
    sources, path = f"{Path(thalweg.__file__).parent}/", []

    def called(frame, event, argument):
        if event == "call" and frame.f_code is Adam.update.__code__:
            path.clear()
            while frame:
                path.insert(0, f"{frame.f_code.co_filename} {frame.f_code.co_qualname}")
                frame = frame.f_back
            if not any("timing.py" in call for call in path):  # a trial's, not one of those that measure the engine
                sys.setprofile(None)

    out = str(tmp_path / "out")
    words = ["digits", "--strategies", "adam", "--steps=8", "--trials=1", "--seeds=2", "--engine=serial", "--out", out]
    sys.setprofile(called)
    try:
        app(["compare", *words], standalone_mode=False)
    finally:
        sys.setprofile(None)
    calls = [c.removeprefix(sources) for c in path if c.startswith(sources) and not c.endswith("<listcomp>")]
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = re.search(r"```text\n(cli/.*?)\n```", page, re.DOTALL)[1].split("\n")
    assert listed == calls[calls.index("cli/compare.py command") :]
    assert f"{len(listed)} functions" in page


ANY = (ROOT / "docs" / "any-training.md").read_text(encoding="utf-8")
GATE = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE + ANY + GATE, re.S)
FILES = {name[1]: block for block in BLOCKS if (name := re.match(r"# (\w+\.py)\n", block))}
SCRIPTS = [block for block in BLOCKS if block not in FILES.values()]
COMMANDS = re.findall(r"^\$ thalweg (compare .*)$", GUIDE + ANY, re.M)


@pytest.fixture
def folder(tmp_path):
    """A folder that holds the files of the guide and of any-training, and the example that one of them imports."""
    for name, block in FILES.items():
        (tmp_path / name).write_text(block)
    shutil.copy(ROOT / "examples" / "lightning_module.py", tmp_path)
    return tmp_path


def test_the_guide_has_files_scripts_and_commands():
    names = {"my", "mine", "guided", "steps", "loop", "adapted", "finetune", "wrapped"}
    assert set(FILES) == {f"{name}.py" for name in names}
    assert len(SCRIPTS) >= 2
    assert len(COMMANDS) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("text", SCRIPTS)
def test_what_the_guide_tells_to_write_runs(folder, text):
    done = script(text, cwd=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS)
def test_what_the_guide_tells_to_call_runs(folder, line):
    words = [w.strip('"') for w in re.findall(r'"[^"]*"|\S+', line)]
    long = "--guidance" in words or any("lbfgs" in word for word in words)  # a teacher takes its share; a step costs 16
    steps = "250" if long else "40"
    small = ["--seeds", "3", "--trials", "2", "--steps", steps]
    if "adapted.py:task" in words:
        pytest.importorskip("pytorch_lightning", reason="pytorch_lightning is not installed")
    if "--engine" not in words and "loop.py:train" not in words:
        small += ["--engine", "serial"]  # nothing to compile for so few steps
    done = command(*words, "--out", "out", *small, cwd=folder)
    assert done.returncode in (0, 1), done.stderr  # 1: forty steps may not bear out the expectation
    assert "report: " in done.stdout
