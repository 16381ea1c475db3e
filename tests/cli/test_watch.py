"""``thalweg watch``: what a study's folder says of it, as it goes on, and how it ends."""

import json
import os
import pty
import re
import signal
import subprocess
import sys

import pytest

from tests.command import command, script
from tests.serve.synthetic import make, writing
from tests.waiting import LONG
from thalweg.cli import watch
from thalweg.compare.storage.store import Store
from thalweg.serve.studies import Study

NAMES = ("sgd", "adam")


def started(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "thalweg", "watch", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "100", "TERM": "xterm"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make(tmp_path_factory.mktemp("watch") / "s", until="tune-3", names=NAMES)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make(tmp_path_factory.mktemp("watch") / "whole", names=NAMES)


def test_once_says_stage_progress_standing_and_how_to_resume(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = command("watch", str(folder), "--once")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "made (s): final runs on fresh seeds, stopped"
    assert re.fullmatch(r"440 of 800 trial-steps, about .* left", lines[1])
    assert lines[2] == "best validation accuracy so far:"
    assert {line.split()[0] for line in lines[3:5]} == {*NAMES}
    assert lines[5:] == ["No process is running it. thalweg compare made resumes it."]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_json_is_the_state_of_the_folder(folder, whole):
    found = json.loads(command("watch", str(folder), "--json").stdout)
    assert set(found) == {
        "study", "folder", "state", "stage", "done", "left", "seconds_left", "written", "task", "standing", "verdict",
        "command",
    }  # fmt: skip
    assert (found["state"], found["done"], found["left"], found["verdict"]) == ("stopped", 440, 360, None)
    values = [s["valid"] for s in found["standing"]]
    assert values == sorted(values, reverse=True)
    assert all(s["test"] is None and set(s["hyperparameters"]) == {"lr"} for s in found["standing"])
    ended = json.loads(command("watch", str(whole.parent), "--json").stdout)  # the one study in it
    assert (ended["state"], ended["stage"], ended["left"]) == ("finished", "finished", 0)
    assert ended["verdict"] == Study("whole", whole).results()["verdict"]["sentence"]


def test_a_finished_study_is_shown_with_its_verdict_and_a_stopped_one_ends_the_view(folder, whole, monkeypatch):
    done = command("watch", str(whole))
    assert done.returncode == 0
    assert "made (whole): finished" in done.stdout
    assert "typical test accuracy:" in done.stdout
    monkeypatch.setattr(watch, "PAUSE", 0.0)
    states = [state["state"] for state in watch._states(Study("s", folder))]
    assert states == ["stopped"] * watch.TRIES


def test_it_follows_a_study_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "PAUSE", 0.0)
    monkeypatch.setattr(watch, "SHARE", 0)
    seen = []
    with writing(tmp_path / "s", names=NAMES) as process:
        process.write("begin")
        steps = iter(("tune-1", "tune-2", "tune-3", "final", "facts"))
        for state in watch._states(Study("s", tmp_path / "s")):
            if not seen or (state["stage"], state["done"]) != seen[-1][:2]:
                seen.append((state["stage"], state["done"], state["state"]))
                if (step := next(steps, None)) is not None:
                    process.write(step)
    assert [stage for stage, *_ in seen] == [
        "tuning, first rung",
        "tuning, configurations near the best",
        "tuning, the best to the end",
        "final runs on fresh seeds",
        "timing the finalists",
        "finished",
    ]
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert {state for *_, state in seen[:-1]} == {"running"}
    assert seen[-1][2] == "finished"


def test_where_there_is_no_terminal_lines_are_printed_and_ctrl_c_ends_the_view(tmp_path):
    with writing(tmp_path / "s", names=NAMES) as process:
        process.write("begin", "tune-1")
        viewer = started(str(tmp_path / "s"), stdout=subprocess.PIPE)
        line = viewer.stdout.readline()
        assert re.match(r"tuning, configurations near the best: \d0 % done, best so far (sgd|adam), about", line)
        process.write("tune-2")
        assert viewer.stdout.readline().startswith("tuning, the best to the end: ")
        viewer.send_signal(signal.SIGINT)
        out, err = viewer.communicate(timeout=LONG)
        assert (viewer.returncode, out, err.strip()) == (130, "", "interrupted")


def test_on_a_terminal_it_is_updated_in_place(tmp_path):
    """The lines before are wiped: the last view stands alone."""
    ours, theirs = pty.openpty()
    with writing(tmp_path / "s", names=NAMES) as process:
        process.write("begin", "tune-1")
        viewer = started(str(tmp_path / "s"), stdout=theirs)
        os.close(theirs)
        shown = ""
        while "near the best" not in shown:
            shown += os.read(ours, 4096).decode()
        process.write("tune-2", "tune-3", "final", "facts")
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk.decode()
    except OSError:  # its end, on Linux
        pass
    assert viewer.wait(LONG) == 0, viewer.stderr.read()
    viewer.stderr.close()
    assert "\x1b[1A\x1b[2K" in shown  # up a line, and wiped
    assert "━" in shown
    assert "made (s): finished" in shown.rpartition("\x1b[2K")[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "there is no folder nowhere: name that of a study"),
        (["empty"], "empty contains no study: name the folder of one"),
        (["two"], "two contains 2 studies: name one of them: a, b"),
        (["broken", "--once"], "is damaged or not a study"),
        (["made", "--json"], "is damaged or not a study"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(tmp_path, folder, words, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "study.sqlite").write_bytes(b"hello" * 1000)
    store = Store.open(make(tmp_path / "made", until="tune-1", names=NAMES), write=True)
    store.extend({"to": "nothing that any study holds"})
    store.close()
    for name in ("a", "b"):
        (tmp_path / "two" / name).mkdir(parents=True)
        (tmp_path / "two" / name / "study.sqlite").write_bytes(b"")
    done = command("watch", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help_and_completion():
    assert "Example: thalweg watch" in command("watch", "--help").stdout.replace("`", "")
    asked = {"_THALWEG_COMPLETE": "complete_bash", "COMP_WORDS": "thalweg watch --on", "COMP_CWORD": "2"}
    assert command(**asked).stdout.split() == ["--once"]
    asked = {"_THALWEG_COMPLETE": "complete_bash", "COMP_WORDS": "thalweg wat", "COMP_CWORD": "1"}
    assert command(**asked).stdout.split() == ["watch"]


HIDDEN = """
import sys
from thalweg.cli.main import run

sys.modules["starlette"] = sys.modules["uvicorn"] = None
run()
"""


def test_it_needs_no_package_of_the_server(folder):
    done = script(HIDDEN, "watch", str(folder), "--once")
    assert (done.returncode, done.stderr) == (0, "")
