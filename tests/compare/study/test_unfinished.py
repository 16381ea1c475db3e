"""What is shown of a study that is not finished: the store's records, no more, and the same as when it is."""

import math

import pytest

import thalweg
from tests.compare.small import small_task
from tests.serve.synthetic import RUNGS, Writer, make
from thalweg.compare.report import render
from thalweg.compare.report.figures import figures
from thalweg.compare.rungs import TITLES
from thalweg.compare.storage.store import Store
from thalweg.compare.study.reporter import Reporter
from thalweg.compare.study.results import collect
from thalweg.compare.study.unfinished import finished, pace, progress, so_far


def opened(folder, read):
    store = Store.open(folder)
    try:
        return read(store)
    finally:
        store.close()


def test_done_and_left_are_the_budget_at_every_rung(tmp_path):
    writer = Writer(tmp_path / "s", trials=8, steps=60, seeds=3)
    stated = writer.design["budget"]
    whole = len(writer.names) * stated["gradient_evaluations_per_strategy"]

    def shown():
        return progress(writer.store.facts(), writer.store.counts())

    assert shown() == {"stage": "setting up", "done": 0, "left": whole}
    writer.begin()
    done = [0]
    for rung in TITLES:
        assert shown()["stage"] == TITLES[rung]
        writer.rung(rung)
        assert shown()["done"] + shown()["left"] == whole
        done.append(shown()["done"])
    assert done == sorted(set(done))
    assert shown() == {"stage": "timing the finalists", "done": whole, "left": 0}
    writer.finish()
    assert shown()["stage"] == "finished"
    writer.store.close()


@pytest.mark.parametrize("trials", [1, 3, 4, 16])
def test_a_rung_that_a_budget_does_not_have_is_never_waited_for(tmp_path, trials):
    writer = Writer(tmp_path / "s", trials=trials, steps=1, seeds=1)  # steps 1: the first rung is the whole run
    writer.begin()
    for rung in ("tune-1", *(["tune-2"] if trials >= 3 else [])):
        writer.rung(rung)
    shown = progress(writer.store.facts(), writer.store.counts())
    assert (shown["stage"], shown["left"]) == (TITLES["final"], len(writer.names))
    writer.store.close()


class Interrupt(Reporter):
    """Interrupts a study when a stage begins."""

    def __init__(self, title):
        self.title = title

    def stage(self, title, steps, left):
        if title == self.title:
            raise KeyboardInterrupt


@pytest.mark.parametrize("rung", ["tune-2", "tune-3", "final"])
def test_an_interrupted_study_stands_where_it_was_left(tmp_path, rung):
    reported = []

    class Last(Interrupt):
        def standing(self, best):
            reported.append(best)

    with pytest.raises(KeyboardInterrupt):
        thalweg.compare(
            small_task(),
            ["sgd", "adam@warmup-linear"],
            trials=4,
            steps=12,
            seeds=3,
            engine="serial",
            out=tmp_path / "s",
            reporter=Last(TITLES[rung]),
        )
    shown = opened(tmp_path / "s", so_far)
    facts, counts = opened(tmp_path / "s", lambda store: (store.facts(), store.counts()))
    assert progress(facts, counts)["stage"] == TITLES[rung]
    assert not finished(facts)
    assert 0 < pace(facts) < 1
    valid = {s["name"]: s["valid"] for s in shown["strategies"]}
    if rung == "final":
        assert valid == reported[-1]  # as the terminal said
    else:
        assert valid == {name: max(best[name] for best in reported if name in best) for name in valid}
    ends = {len(s["curves"]["step"]) for s in shown["strategies"]}
    assert ends == ({12} if rung == "final" else {4})  # a curve goes from the first step to the last one


@pytest.mark.parametrize("after", range(2, 60, 7))
def test_a_study_cut_within_a_rung_shows_the_trials_that_ended(tmp_path, after):
    class Cut(Reporter):
        left, title = after, ""

        def stage(self, title, steps, left):
            self.title = title

        def advance(self, steps):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt

    cut, budget = Cut(), {"trials": 4, "steps": 12, "seeds": 3, "engine": "serial"}
    with pytest.raises(KeyboardInterrupt):
        thalweg.compare(small_task(), ["sgd", "adam"], out=tmp_path / "s", reporter=cut, **budget)
    facts, counts = opened(tmp_path / "s", lambda store: (store.facts(), store.counts()))
    stated, shown = facts["design"]["budget"], progress(facts, counts)
    assert shown["done"] + shown["left"] == 2 * stated["gradient_evaluations_per_strategy"]
    assert shown["stage"] == cut.title
    found = opened(tmp_path / "s", so_far)
    assert len(figures(found)) == (4 if counts else 0)
    assert sum(s["trials"] for s in found["strategies"]) == counts.get("tune-1", 0) + counts.get("tune-2", 0)


def test_it_agrees_with_the_results_of_the_finished_study(tmp_path):
    budget = {"trials": 4, "steps": 12, "seeds": 3, "engine": "serial"}
    done = thalweg.compare(small_task(), ["sgd", "adam"], out=tmp_path / "s", **budget)
    results = {s["name"]: s for s in done.results["strategies"]}
    before = opened(tmp_path / "s", so_far)
    for s in before["strategies"]:
        same = results[s["name"]]
        for field in ("sensitivity", "trials", "diverged", "curves", "space"):
            assert s[field] == same[field], field
    assert before["expected_best"] == done.results["expected_best"]
    drawn = {f["id"]: f["plot"] for f in figures(done.results)}
    for figure in figures(before):
        if figure["id"] == "sensitivity":
            tried = [
                t for t in drawn["sensitivity"]["data"] if not str(t.get("marker", {}).get("symbol")).startswith("line")
            ]
            assert sorted(map(str, figure["plot"]["data"])) == sorted(map(str, tried))
    assert [f["id"] for f in figures(before)] == ["curves", "sensitivity", "expected", "divergences"]


@pytest.mark.parametrize("until", [None, *RUNGS[:-1]])
def test_every_figure_there_is_can_be_drawn_at_every_rung(tmp_path, until):
    if until is None:
        writer = Writer(tmp_path / "s")
        writer.store.close()
    else:
        make(tmp_path / "s", until)
    shown = opened(tmp_path / "s", so_far)
    assert shown["verdict"] is None
    assert len(figures(shown)) == (4 if until else 0)
    values = [s["valid"] for s in shown["strategies"]]
    assert values == sorted(values, key=lambda v: math.inf if v is None else -v)


def test_a_made_up_study_has_a_report(tmp_path):
    assert "These runs cannot say which." in render(opened(make(tmp_path / "s"), collect))


def test_the_pace_is_the_mean_over_strategies():
    engines = [
        {"group": "update rules (2 strategies)", "trial_steps_per_second": 100.0},
        {"group": "lbfgs", "trial_steps_per_second": 10.0},
    ]
    facts = {"design": {"strategies": [{"name": n} for n in ("sgd", "adam", "lbfgs")]}}
    assert pace(facts) is None
    assert pace(facts | {"engine": engines}) == pytest.approx((0.01 + 0.01 + 0.1) / 3)
