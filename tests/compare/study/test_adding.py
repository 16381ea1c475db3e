"""Seeds and strategies that are added to a study: it equals one that was begun with them, and says what was seen."""

import json
import shutil
import signal

import pytest

import thalweg
from tests.command import command, script
from tests.compare.execution.test_loop import loop, reported
from tests.compare.small import small_task
from tests.compare.study.test_study import KILLED, USER, Interrupt, records
from thalweg import Strategy
from thalweg.compare.comparison import Comparison
from thalweg.compare.storage.facts import DESIGN
from thalweg.compare.storage.rows import sealed
from thalweg.compare.storage.store import Store, StudyError
from thalweg.compare.study.reporter import Reporter
from thalweg.compare.study.unfinished import progress

SMALL = {"trials": 4, "steps": 12, "engine": "serial"}
FEW, MORE = ("sgd", "adam"), ("sgd", "adam", "adam+batch-norm@warmup-linear", "torch.optim.NAdam")


def broken(params, lr=0.1):
    raise RuntimeError("never made")


class Telling(Reporter):
    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def study(out, strategies=FEW, seeds=3, **options):
    return thalweg.compare(small_task(), strategies, seeds=seeds, out=out, **{**SMALL, **options})


def by_key(folder):
    return {(r["rung"], r["key"]): r for r in records(folder)}


def without_record(results):
    """Returns the results without what is measured or tells that something was added."""
    unequal = ("run", "notes", "engine", "strategies")
    timed = ("seconds_per_step", "to_target")
    strategies = [{name: v for name, v in s.items() if name not in timed} for s in results["strategies"]]
    return {name: value for name, value in results.items() if name not in unequal} | {"strategies": strategies}


def progress_of(folder):
    store = Store.open(folder)
    try:
        return progress(store.facts(), store.counts())
    finally:
        store.close()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return study(tmp_path_factory.mktemp("few") / "out")


@pytest.fixture(scope="module")
def begun_so(tmp_path_factory):
    return study(tmp_path_factory.mktemp("more") / "out", MORE, seeds=5)


@pytest.fixture
def few(tmp_path, done):
    return shutil.copytree(done.folder, tmp_path / "s")


@pytest.mark.parametrize(
    "steps",
    [
        ({"add": MORE[2:]}, {"strategies": MORE, "seeds": 4}, {"strategies": MORE, "seeds": 5}),
        ({"strategies": ("torch.optim.NAdam", "adam", MORE[2], "sgd"), "seeds": 5},),
    ],
    ids=["strategies, seeds, a seed", "both at once, in another order"],
)
def test_a_study_that_was_added_to_equals_one_that_was_begun_so(few, begun_so, steps):
    for asked in steps:
        added = study(few, **asked)
    one, two = by_key(few), by_key(begun_so.folder)
    assert {key: one[key] for key in two} == two
    assert len(one) == len(two)
    if list(steps[-1]["strategies"]) == list(MORE):
        assert without_record(added.results) == without_record(begun_so.results)
    assert progress_of(few)["left"] == 0
    assert study(few, seeds=5, strategies=MORE).results == added.results  # finished, and so asked for again


def test_nothing_that_was_stored_is_changed(few, done):
    before = dict(facts(few))
    study(few, seeds=4)
    assert before.items() <= facts(few).items()
    assert by_key(done.folder).items() <= by_key(few).items()


def facts(folder):
    """Returns what is stored, under the names that it is stored under."""
    store = Store.open(folder)
    try:
        return {name: value for name, value, _ in store._db.execute("SELECT * FROM facts")}
    finally:
        store.close()


def test_the_notes_say_what_was_seen_and_what_that_does(few, done):
    telling = Telling()
    added = study(few, seeds=5, reporter=telling)
    assert "adding seeds 4 to 5 to the study of sgd and adam with 3 seeds" in telling.lines
    notes = " ".join(added.results["notes"])
    assert f'when the result with 3 seeds of sgd, adam was known: "{done.verdict}"' in notes
    assert "Seeds 4 to 5 were added on 20" in notes
    assert "This verdict is look 2 at one study" in notes
    assert "up to 2 times as often" in notes
    (one,) = added.results["run"]["added"]
    assert (one["strategies"], one["seeds"], one["seen"]) == ([], 2, done.verdict)
    assert "This verdict is look 2" in added.report.read_text()
    assert done.results["run"]["added"] == []
    again = study(few, seeds=5, add="adamw")
    assert "adamw was added on 20" in " ".join(again.results["notes"])
    assert "up to 3 times as often" in " ".join(again.results["notes"])


def test_what_is_added_before_there_is_a_result_was_not_seen(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "s", reporter=Interrupt(14))
    added = study(tmp_path / "s", seeds=4, strategies=(*FEW, "adamw"))
    notes = " ".join(added.results["notes"])
    assert "adamw and seed 4 were added on 20" in notes
    assert "before the study had a result" in notes
    assert "This verdict is look" not in notes
    whole = study(tmp_path / "whole", seeds=4, strategies=(*FEW, "adamw"))
    assert by_key(tmp_path / "s") == by_key(whole.folder)
    assert without_record(added.results) == without_record(whole.results)


@pytest.mark.parametrize("after", [0, 20])
def test_an_addition_that_was_cut_off_goes_on(few, begun_so, after):
    with pytest.raises(KeyboardInterrupt):
        study(few, seeds=5, add=MORE[2:], reporter=Interrupt(after))
    left = progress_of(few)
    assert left["stage"] != "finished"
    assert 0 < left["left"] <= progress_of(begun_so.folder)["done"]
    with pytest.raises(StudyError, match="not finished: the same thalweg compare command resumes it"):
        Comparison.open(few)
    added = study(few, seeds=5, add=MORE[2:])
    assert by_key(few) == by_key(begun_so.folder)
    assert without_record(added.results) == without_record(begun_so.results)
    assert len(added.results["run"]["added"]) == 1


def test_what_an_addition_leaves_to_do_is_known_exactly(few):
    class Begun(Reporter):
        def stage(self, title, steps, left):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study(few, seeds=5, reporter=Begun())
    assert progress_of(few)["left"] == 2 * 2 * 12
    with pytest.raises(KeyboardInterrupt):
        study(few, seeds=5, add="adamw", reporter=Begun())
    assert progress_of(few)["left"] == 2 * 2 * 12 + 5 * 12 + 5 * 4 + 3 * 8


@pytest.mark.slow
def test_killed_in_the_middle_the_command_goes_on(tmp_path):
    (tmp_path / "my.py").write_text(USER)
    words = ["compare", "my.py:task", "--strategies", "sgd,adam", "--trials", "4", "--steps", "24"]
    words += ["--engine", "serial", "--out"]
    more = ["--add", "adamw", "--seeds", "4"]
    assert command(*words, "cut", "--seeds", "3", cwd=tmp_path).returncode == 0
    finals = (4 + 2 * 1) * 24  # four runs of what is added, and a fourth of each that was there
    for rung, stages, least in (
        ("tune-3", ("tuning, the best to the end", "final runs on fresh seeds"), finals),
        ("final", ("final runs on fresh seeds", "timing the finalists"), 0),
    ):
        killed = script(KILLED, rung, *words, "cut", *more, cwd=tmp_path)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        state = json.loads(command("watch", "cut", "--json", cwd=tmp_path).stdout)
        assert state["state"] == "stopped"
        assert state["stage"] in stages  # a rung that takes a moment is written in one piece
        assert state["left"] >= least
        assert "--add adamw --seeds 4" in state["command"]  # which resumes it
    assert command(*words, "cut", *more, cwd=tmp_path).returncode == 0
    whole = [*words[:3], "sgd,adam,adamw", *words[4:], "whole", "--seeds", "4"]
    assert command(*whole, cwd=tmp_path).returncode == 0
    assert by_key(tmp_path / "cut") == by_key(tmp_path / "whole")
    refused = command(*words, "none", *more, cwd=tmp_path)
    assert refused.returncode == 2
    assert "contains no study to add to" in refused.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"seeds": 2}, "contains a study of 3 seeds, and seeds can only be added: give --seeds 3 or more"),
        ({"strategies": "sgd"}, "contains a different study: strategies are sgd, adam there and sgd here"),
        ({"strategies": "sgd", "add": "adamw"}, "strategies are sgd, adam there and sgd, adamw here"),
        (
            {"strategies": "sgd,adam,nadam", "add": "adamw"},
            "strategies are sgd, adam there and sgd, adam, nadam",
        ),
        ({"seeds": 5, "steps": 13}, "steps is 12 there and 13 here; seeds is 3 there and 5 here"),
        ({"seeds": 5, "seed": 1}, "seeds is 3 there and 5 here; seed is 0 there and 1 here"),
        ({"seeds": 5, "until": "decided"}, "until is not given there and decided here"),
        ({"add": "adam"}, "strategy 'adam' is named twice"),
        ({"add": [Strategy.parse("adamw@warmup-linear").with_settings(warmup=0.5)]}, "its warm-up is longer than the"),
        ({"add": [Strategy("broken", factory=broken)]}, "strategy 'broken'"),
    ],
)
def test_a_wrong_request_leaves_the_folder_as_it_was(few, asked, said):
    before = {path.name: path.read_bytes() for path in few.iterdir()}
    with pytest.raises((StudyError, ValueError)) as error:
        study(few, **asked)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in few.iterdir()} == before


def test_a_study_that_adds_seeds_itself_is_not_added_to(tmp_path):
    study(tmp_path / "s", until="decided", trials=2)
    for more in ({"seeds": 5}, {"add": "adamw"}):
        with pytest.raises(StudyError, match="adds seeds itself, by a plan whose looks share the level") as error:
            study(tmp_path / "s", until="decided", trials=2, **more)
        assert "--until decided" in str(error.value)


def test_a_strategy_is_not_added_where_the_target_came_from_the_others(tmp_path):
    options = {"judge": "time-to-target", "trials": 2}
    study(tmp_path / "s", **options)
    with pytest.raises(StudyError, match="whose target was chosen from the tuning of those that it has"):
        study(tmp_path / "s", add="adamw", **options)
    added, whole = study(tmp_path / "s", seeds=4, **options), study(tmp_path / "whole", seeds=4, **options)
    assert records(tmp_path / "s") == records(tmp_path / "whole")
    assert added.results["verdict"] == whole.results["verdict"]


def test_a_strategy_is_not_added_where_runs_are_as_long_as_a_time_allows(few, begun_so):
    store = Store.open(few, write=True)
    design = store.fact(DESIGN)
    design["budget"] |= {"study_seconds": 600.0}
    value = sealed(DESIGN, json.dumps(design))
    store._db.execute("UPDATE facts SET value = ?, digest = ? WHERE name = ?", (*value[1:], DESIGN))
    store.close()
    with pytest.raises(StudyError, match="runs are as long as a time allows"):
        study(few, add="adamw", budget="10min", steps=None)
    assert study(few, seeds=5, budget="10min", steps=None).results["budget"]["study_seconds"] == 600.0
    assert by_key(few).items() < by_key(begun_so.folder).items()


def test_a_tracker_gets_each_verdict(few):
    for seeds in (3, 4):
        study(few, seeds=seeds, log=f"tensorboard={few.parent / 'runs'}")
    names = {path.name for path in (few.parent / "runs").glob("*/*")}
    assert {"verdict", "verdict 2", "final"} <= names


def test_a_study_of_a_training_loop_is_added_to(tmp_path):
    task = loop(reported, after=lambda run: run.report(test={"loss": 0.5}))

    def compared(out, strategies, seeds, **options):
        thalweg.compare(task, strategies, seeds=seeds, out=tmp_path / out, trials=1, steps=12, **options)

    compared("s", "sgd", 1)
    compared("s", "sgd", 2, add="adamw")
    compared("whole", "sgd,adamw", 2)
    assert by_key(tmp_path / "s") == by_key(tmp_path / "whole")
