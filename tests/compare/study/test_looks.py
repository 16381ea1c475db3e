"""A study that goes on until it is decided can be given a time, which it keeps over all its interruptions.

Each trial-step takes a second here.
"""

import pytest

import thalweg
from tests.compare.small import small_task
from thalweg import Strategy
from thalweg.compare.comparison import Comparison
from thalweg.compare.storage.store import Store
from thalweg.compare.study import looks
from thalweg.compare.study.reporter import Reporter

TUNING, FIRST = 2 * (4 * 4 + 3 * 8), 2 * 9 * 12  # seconds of the tuning of two strategies, and of their first runs
ADDED = 2 * (2 * 4 + 2 * 8 + 6 * 12)  # and of each batch that is added: two trials to the end, and six runs
STRETCH = 1  # trial-steps between two evaluations


class Clock(Reporter):
    """Moves on by a second a trial-step, and more at a line or as it is told."""

    def __init__(self, monkeypatch, now=0.0):
        self.now, self.lines, self.interrupt_at, self.pause = now, [], float("inf"), (None, 0.0)
        monkeypatch.setattr(looks, "clock", lambda: self.now)

    def advance(self, steps):
        self.now += steps if steps <= STRETCH else 0  # what is more was read from the store
        if self.now > self.interrupt_at:
            raise KeyboardInterrupt

    def say(self, line):
        self.lines.append(line)
        word, seconds = self.pause
        self.now += seconds if word and word in line else 0.0


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def study(out, clock, at_most=None, strategies=("momentum", "nesterov"), **options):
    settings = {"trials": 3, "steps": 12, "seeds": 9, "engine": "serial", "until": "decided", "within": 1e-9}
    return thalweg.compare(
        small_task(), strategies, out=out, reporter=clock, at_most=at_most, **{**settings, **options}
    )


def records(folder):
    store = Store.open(folder)
    try:
        return list(store.records())
    finally:
        store.close()


@pytest.mark.parametrize(("batches", "to_spare"), [(0, -1), (1, -1), (1, 0), (2, 5)])
def test_no_batch_begins_that_would_end_after_the_time(tmp_path, clock, batches, to_spare):
    at_most = TUNING + FIRST + (batches + (to_spare < 0)) * ADDED + to_spare
    done = study(tmp_path / "s", clock, at_most=at_most)
    assert (done.results["budget"]["seeds"], done.results["budget"]["trials"]) == (9 + 6 * batches, 3 + 2 * batches)
    assert done.results["run"]["seconds"] == TUNING + FIRST + ADDED * batches
    look = done.results["run"]["last_look"]
    assert (look["ended_by"], look["at_most"], look["added_trials"]) == ("time", at_most, 2 * batches)
    assert look["batch_seconds"] == (ADDED if batches else FIRST)
    assert look["next_seconds"] == pytest.approx(ADDED)  # also where the batch before had runs alone


def test_the_verdict_and_the_progress_say_what_was_added_and_what_ended_it(tmp_path, clock):
    done = study(tmp_path / "s", clock, at_most="10min")
    said = (
        "The limit of 10 min ended this after 1 of at most 3 added batches: 2 trials and 6 runs more of each strategy "
        "that was in question. 8.1 min were spent, and another batch takes about 3.2 min."
    )
    assert said in done.details
    assert said in clock.lines
    assert done.details == Comparison.open(done.folder).details


def test_the_first_batch_always_runs(tmp_path, clock):
    assert study(tmp_path / "s", clock, at_most="1s").results["budget"]["seeds"] == 9


def test_a_study_with_time_enough_says_nothing_of_it(tmp_path, clock):
    all_runs = study(tmp_path / "all", clock, at_most="1h")
    assert all_runs.results["run"]["last_look"]["ended_by"] == "seeds"
    more = "6 trials and 18 runs more of each strategy that was in question"
    assert f"Not decided by all 3 batches that were added: {more}." in all_runs.details
    slow = Strategy("slow", factory=thalweg.optim.SGD, defaults={"lr": 1e-7}, space={"lr": (1e-8, 1e-7)})
    decided = study(tmp_path / "decided", clock, at_most="1s", strategies=("adam", slow), steps=40)
    assert decided.results["run"]["last_look"]["ended_by"] == "decided"
    assert "Decided by the first runs: no trials and no runs were added." in decided.details
    for done in (all_runs, decided):
        assert not any("limit of" in line for line in (*done.details, *clock.lines))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        return study(tmp_path_factory.mktemp("whole") / "s", Clock(monkeypatch), at_most="10min")


@pytest.mark.parametrize("at", [50, TUNING + 100, TUNING + FIRST + 10, TUNING + FIRST + 30, TUNING + FIRST + 100])
def test_interrupted_it_decides_alike(tmp_path, monkeypatch, whole, at):
    first = Clock(monkeypatch)
    first.interrupt_at = at
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "cut", first, at_most="10min")
    again = study(tmp_path / "cut", Clock(monkeypatch, now=1e6), at_most="10min")
    assert records(again.folder) == records(whole.folder)
    assert again.results["verdict"]["candidates"] == whole.results["verdict"]["candidates"]
    assert again.results["run"]["last_look"]["ended_by"] == "time"
    lost = again.results["run"]["seconds"] - whole.results["run"]["seconds"]
    assert 0 <= lost <= 12  # the run in flight is made again


def test_what_was_spent_before_an_interruption_counts(tmp_path, monkeypatch):
    first = Clock(monkeypatch)
    first.pause, first.interrupt_at = ("engine for", 400.0), 450
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "s", first, at_most="10min")
    done = study(tmp_path / "s", Clock(monkeypatch), at_most="10min")
    assert done.results["budget"]["seeds"] == 9
    assert done.results["run"]["seconds"] >= 400 + TUNING + FIRST


def test_a_batch_that_has_begun_is_finished(tmp_path, monkeypatch):
    first = Clock(monkeypatch)
    first.interrupt_at = TUNING + FIRST + 5
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "s", first, at_most="10min")
    late = Clock(monkeypatch)
    late.pause = ("resuming", 10_000.0)
    assert study(tmp_path / "s", late, at_most="10min").results["budget"]["seeds"] == 15


def test_another_time_may_be_given_while_it_goes_on(tmp_path, monkeypatch):
    first = Clock(monkeypatch)
    first.interrupt_at = TUNING + 50
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "s", first, at_most="10min")
    assert study(tmp_path / "s", Clock(monkeypatch), at_most="1 h").results["budget"]["seeds"] == 27


def test_a_process_that_is_killed_loses_little_of_its_time(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    first = Clock(monkeypatch)
    first.interrupt_at = TUNING + 200
    monkeypatch.setattr(looks.Stopwatch, "__exit__", die)  # nothing is stored any more
    with pytest.raises(Killed):
        study(tmp_path / "s", first, at_most="10min")
    monkeypatch.undo()
    done = study(tmp_path / "s", Clock(monkeypatch), at_most="2h")
    whole = TUNING + FIRST + 3 * ADDED
    assert whole - 30 < done.results["run"]["seconds"] <= whole + 12


WRONG = ["20 minutes", "20m", "0min", "-5min", "1.2.3h", "", "min", "infh", float("nan"), True, 0, 1e12]


@pytest.mark.parametrize("at_most", WRONG)
def test_what_is_no_time_is_refused(tmp_path, clock, at_most):
    with pytest.raises(ValueError, match="at_most is .*, not a duration: write, for example, 90s, 20min or 1.5h"):
        study(tmp_path / "s", clock, at_most=at_most)
    assert not (tmp_path / "s").exists()


def test_a_time_without_until_is_refused(tmp_path, clock):
    with pytest.raises(ValueError, match="at_most requires until='decided' .--until decided.: add that, or omit"):
        study(tmp_path / "s", clock, at_most="20min", until=None)
