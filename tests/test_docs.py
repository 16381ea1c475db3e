"""The documentation holds: its links lead somewhere, and what the guide tells a user to write runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
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


def test_what_the_guide_tells_to_write_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
    scripts = []
    for block in blocks:
        name = re.match(r"# (\w+\.py)\n", block)
        (tmp_path / name[1]).write_text(block) if name else scripts.append(block)
    assert {p.name for p in tmp_path.iterdir()} == {"my.py", "mine.py", "guided.py"}
    assert len(scripts) >= 2
    for script in scripts:
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    commands = re.findall(r"^\$ thalweg (compare .*)$", GUIDE, re.M)
    assert len(commands) >= 3
    for i, command in enumerate(commands):
        words = re.findall(r'"[^"]*"|\S+', command)
        words = [w.strip('"') for w in words]
        if "--out" not in words:
            words += ["--out", f"out{i}"]
        small = ["--seeds", "3", "--trials", "2"]
        if "--guidance" in words:
            small += ["--steps", "240"]  # a teacher takes its share of them
        elif "--steps" not in words:
            small += ["--steps", "40"]
        done = subprocess.run(
            [sys.executable, "-m", "thalweg", *words, *small], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode in (0, 1), done.stderr  # 1: forty steps may not bear out the expectation
        assert "report: " in done.stdout
