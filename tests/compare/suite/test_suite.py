"""``thalweg suite`` from the command line and from Python."""

import pytest

import thalweg
from tests.command import command
from tests.schemas import printed
from thalweg.compare.suite.suite import SUITE
from thalweg.compare.task.builtin import TASKS

WORDS = "suite", "adam", "--against", "sgd", "--tasks", "diabetes", "--engine", "serial", "--out", "here"


def test_a_suite_ends_with_an_answer_and_is_resumed(tmp_path):
    done = command(*WORDS, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = printed("suite", done.stdout)
    assert found["summary"]["candidate"] == "adam"
    assert found["summary"]["sentence"] in " ".join(done.stderr.split("\n"))
    assert set(found["tasks"]["diabetes"]["typical"]) == {"adam", "sgd"}
    page = (tmp_path / "here" / "suite.html").read_text()
    assert found["summary"]["sentence"] in page
    assert "diabetes/report.html" in page
    assert (tmp_path / "here" / "diabetes" / "report.html").exists()
    again = command(*WORDS, "--json", cwd=tmp_path)
    assert again.stdout == done.stdout
    assert "already finished" in again.stderr


BAD = {
    "no rival": ({"against": []}, "there is no rival"),
    "a rival that is the candidate": ({"against": "adam"}, "named twice"),
    "an unknown task": ({"tasks": ["digit"]}, "unknown task 'digit'"),
    "no task": ({"tasks": []}, "there are no tasks"),
    "a task twice": ({"tasks": ["digits", "digits"]}, "named twice"),
    "an unknown size": ({"size": "XL"}, "size is 'XL'"),
}


@pytest.mark.parametrize(("options", "match"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_before_anything_is_written(options, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        thalweg.suite("adam", **{"against": "sgd", **options}, out=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_the_suite_names_tasks_that_need_no_download():
    assert len(set(SUITE)) == 13
    assert set(SUITE) <= set(TASKS) - {"mnist", "mnist-conv", "shakespeare"}
