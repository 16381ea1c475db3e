"""Studies that were written before are gone on with, where what they state is what is asked for."""

import json

import pytest

import thalweg
from tests.compare.small import small_task
from thalweg.compare.storage.facts import DESIGN, SECONDS_PER_STEP, UNTRAINED_TEST
from thalweg.compare.storage.old_designs import as_meant
from thalweg.compare.storage.rows import sealed
from thalweg.compare.storage.store import Store, StudyError
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.second_order import SECOND_ORDER
from thalweg.compare.study.unfinished import progress


def study(out, strategies=("sgd@warmup-cosine",), **options):
    settings = {"trials": 2, "steps": 20, "seeds": 2, "engine": "serial", **options}
    return thalweg.compare(small_task(), strategies, out=out, **settings)


def rewrite(folder, budget, without=()):
    store = Store.open(folder, write=True)
    design = store.fact(DESIGN)
    design["budget"] = {name: value for name, value in design["budget"].items() if name in budget}
    _, value, digest = sealed(DESIGN, json.dumps(design))
    store._db.execute("UPDATE facts SET value = ?, digest = ? WHERE name = ?", (value, digest, DESIGN))
    for name in without:
        store._db.execute("DELETE FROM facts WHERE name = ?", (name,))
    store.close()


def test_a_study_whose_budget_states_no_warm_up_goes_on_and_its_rungs_are_the_same(tmp_path):
    done = study(tmp_path / "s", trial_seconds=600.0)
    stated = done.results["budget"]
    assert stated["trial_seconds"] == 600.0
    before = Store.open(tmp_path / "s")
    whole = progress(before.facts(), before.counts())
    before.close()
    old = {name for name in stated if name not in ("warmup", "trial_seconds")}
    rewrite(tmp_path / "s", old, without=(SECONDS_PER_STEP, UNTRAINED_TEST))
    store = Store.open(tmp_path / "s")
    assert progress(store.facts(), store.counts())["done"] == whole["done"]
    store.close()
    again = study(tmp_path / "s")
    assert again.results["budget"] == {name: stated[name] for name in old}
    assert [s["test"] for s in again.results["strategies"]] == [s["test"] for s in done.results["strategies"]]
    with pytest.raises(StudyError, match="contains a different study: trials is 2 there and 3 here:"):
        study(tmp_path / "s", trials=3)


def test_how_long_a_trial_may_take_is_no_part_of_what_a_study_is(tmp_path):
    assert study(tmp_path / "s", trial_seconds=600.0).results == study(tmp_path / "s", trial_seconds=500.0).results


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_a_second_order_method_is_found_where_it_stood_before(name):
    now = Strategy.parse(name).describe()
    old = {**now, "optimizer": now["optimizer"].replace(".strategy.", ".")}
    assert old != now
    assert as_meant({"strategies": [old], "decay": "all"})["strategies"] == [now]
