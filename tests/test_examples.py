"""Each example can be compared as its command says, and the folder's page lists each."""

import importlib.util
import os
import re
from pathlib import Path

import pytest

import thalweg

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Lightning's own, on workers and deprecations

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is loaded: nothing is to be fetched
FOLDER = Path(__file__).parent.parent / "examples"
ROWS = re.findall(r"^\| \[(\S+)\]\(\1\) .*`thalweg compare (.*)` \|$", (FOLDER / "README.md").read_text(), re.M)
NEEDS = {
    "lightning_module.py": ["pytorch_lightning"],
    "transformers_trainer.py": ["transformers", "accelerate"],
    "transformers_no_trainer_style.py": ["transformers", "accelerate"],
}
STYLES = ("nanogpt_style.py", "timm_style.py", "transformers_no_trainer_style.py")


def test_the_page_lists_each_with_its_command():
    assert sorted(name for name, _ in ROWS) == sorted(path.name for path in FOLDER.glob("*.py"))
    for name, words in ROWS:
        assert f"``thalweg compare {words}``" in (FOLDER / name).read_text()


@pytest.mark.parametrize(("name", "words"), ROWS, ids=[name for name, _ in ROWS])
def test_it_is_compared_as_its_command_says(name, words, tmp_path):
    for package in NEEDS.get(name, []):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    spec, _, strategies, *_ = words.split()
    small = {"trials": 1, "seeds": 2, "steps": 8, "engine": "auto" if name in (*STYLES, "gan.py") else "serial"}
    study = thalweg.compare(spec, strategies, **small, device="cpu", here=FOLDER, out=tmp_path / "study")
    compared = study.results["strategies"]
    assert [s["name"] for s in compared if s["diverged"] == s["trials"]] == []
    assert len(compared) == len(strategies.split(","))
    told = study.results["task"]["name"].replace("-", "_")  # that of the file where a function is called main or train
    assert name.startswith(told)


@pytest.mark.parametrize("name", STYLES)
def test_a_script_takes_few_changes(name):
    marked = [line for line in (FOLDER / name).read_text().splitlines() if line.endswith("# thalweg")]
    assert 5 <= len(marked) <= 9
