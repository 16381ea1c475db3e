"""What is served: the report's own figures, every study as it stands, changes as they come, nothing written."""

import json
import re
import shutil
import sqlite3
from urllib.parse import quote

import pytest

from tests.compare.test_report import HOSTILE, Elements
from tests.serve.running import running
from tests.serve.synthetic import RUNGS, Process, Writer, make, writing
from tests.waiting import until
from thalweg.compare.report import render
from thalweg.compare.rungs import TITLES
from thalweg.compare.storage.store import Store
from thalweg.compare.study.results import collect
from thalweg.serve.pages import StudyPage
from thalweg.serve.studies import FILE, Study, find

SENTENCE = "No verdict: it takes at least 8 seeds to compare 8 strategies (--seeds 8)."


def figures(page):
    return json.loads(Elements(page).scripts[0])["figures"]


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    make(folder / "done")
    make(folder / "deep" / "er" / "half", until="tune-2")
    make(folder / "done" / "within")  # not looked for: a study's folder is its own
    make(folder / ".hidden")
    return folder


@pytest.fixture(scope="module")
def served(root):
    with running(root) as served:
        yield served


def test_every_study_below_the_folder_is_listed_and_linked(served):
    page = Elements(served.page("/"))
    links = [a["href"] for tag, a in page.elements if tag == "a"]
    assert links == ["/study/deep/er/half", "/study/done"]
    for link in links:
        assert served.ask(link)[0] == 200


def test_a_finished_study_shows_the_report(served, root):
    store = Store.open(root / "done")
    report = render(collect(store))
    store.close()
    page = served.page("/study/done")
    assert figures(page) == figures(report)
    words = [text for text in Elements(report).texts if len(text) > 20 and "{" not in text]
    assert set(words) <= set(Elements(page).texts)


def test_an_unfinished_study_shows_where_it_stands(served):
    page = served.page("/study/deep/er/half")
    assert f"Not finished: {TITLES['tune-3']}" in page
    assert list(figures(page)) == ["curves", "sensitivity", "expected", "divergences"]
    assert "seconds</button>" not in page  # a step is timed at the end
    assert "thalweg compare made" in page
    assert "Bars mark" not in page  # no final run has ended
    assert "could be the best" not in page


def test_a_verdict_is_in_the_index_and_the_sentences_after_it_on_the_page_of_the_study(tmp_path):
    scores = {"sgd": [0.6, 0.61, 0.62, 0.63] * 2, "adam": [0.9, 0.91, 0.92, None] * 2}
    store = Store.open(make(tmp_path / "s", tests=scores))
    verdict = collect(store)["verdict"]
    store.close()
    assert any("adam 2 of 8" in line for line in verdict["details"])
    with running(tmp_path) as served, served.events("/events") as following:
        texts = Elements(served.page("/study/s")).texts
        assert {verdict["sentence"], *verdict["details"]} <= set(texts)
        while verdict["sentence"] not in Elements(served.page("/")).texts:
            following()
        assert not set(verdict["details"]) & set(Elements(served.page("/")).texts)


def test_a_folder_that_is_a_study_shows_it_at_once(tmp_path):
    make(tmp_path / "alone")
    with running(tmp_path / "alone") as served:
        status, headers, _ = served.ask("/")
        assert (status, headers["location"]) == (307, "/study/alone")
        assert "All studies" not in served.page("/study/alone")


def test_a_folder_without_studies_says_how_to_begin_and_shows_one_that_comes(tmp_path):
    with running(tmp_path) as served:
        assert "There is no study here yet" in served.page("/")
        with served.events("/events") as following:
            following()
            make(tmp_path / "new", until="tune-1")
            following()
        assert "/study/new" in served.page("/")


def test_a_stream_tells_each_change(tmp_path):
    with writing(tmp_path / "s") as writer, running(tmp_path) as served, served.events("/events/s") as following:
        assert following() == served.version("/study/s")
        steps = ["begin", *RUNGS]
        states = ["tuning, first rung", *list(TITLES.values())[1:], "timing the finalists"]
        for step, state in zip(steps[:-1], states, strict=True):
            writer.write(step)
            while f"Not finished: {state}, running" not in served.page("/study/s"):
                following()
        writer.write("facts")
        while "Not finished" in served.page("/study/s"):
            following()


def test_a_study_is_seen_to_stop_and_to_go_on(tmp_path):
    with running(tmp_path) as served:
        process = Process(tmp_path / "s")
        process.write("begin", "tune-1")
        with served.events("/events/s") as following:
            assert "tuning, configurations near the best, running" in served.page("/study/s")
            process.kill()
            while "tuning, configurations near the best, stopped" not in served.page("/study/s"):
                following()
            assert "<code>thalweg compare made</code> resumes it" in served.page("/study/s")
            with writing(tmp_path / "s") as process:
                while "tuning, configurations near the best, running" not in served.page("/study/s"):
                    following()
                process.write("tune-2")
                while "tuning, the best to the end, running" not in served.page("/study/s"):
                    following()


def test_a_page_made_before_the_last_write_counted_is_made_again(tmp_path):
    """A writer waits for the disk between what it writes and the index that lets it count: here it is stopped there."""
    index = tmp_path / "s" / f"{FILE}-shm"
    with writing(tmp_path / "s") as process, running(tmp_path) as served:
        process.write("begin")
        before = index.read_bytes()
        process.write("tune-1")
        after = index.read_bytes()
        with index.open("r+b") as file:
            file.write(before)
        assert "tuning, first rung, running" in served.page("/study/s")
        with index.open("r+b") as file:
            file.write(after)
        until(lambda: "configurations near the best, running" in served.page("/study/s"))


def test_many_who_watch_cost_one_reading(tmp_path, monkeypatch):
    writer = Writer(tmp_path / "s")
    made = []
    monkeypatch.setattr(StudyPage, "make", lambda self, version: made.append(version) or version)
    with running(tmp_path) as served:
        streams = [served.events("/events/s") for _ in range(50)]
        followers = [stream.__enter__() for stream in streams]
        first = {following() for following in followers}
        writer.begin()
        second = {following() for following in followers}
        for stream in streams:
            stream.__exit__(None, None, None)
    assert len(first) == len(set(made[:1])) == 1
    assert second <= set(made[1:])
    assert len(made) == len(set(made)) <= 4
    writer.store.close()


def test_a_study_that_is_taken_away_says_so(tmp_path):
    make(tmp_path / "s")
    with running(tmp_path) as served, served.events("/events/s") as following, served.events("/events") as index:
        following()
        assert "/study/s" in served.page("/")
        shutil.rmtree(tmp_path / "s")
        while (answer := served.ask("/study/s"))[0] == 200:
            if "no longer contains a study" not in answer[2]:
                following()
        while "/study/s" in served.page("/"):
            index()


def test_not_a_byte_is_written_finished_open_or_killed(tmp_path):
    make(tmp_path / "done")
    killed = Process(tmp_path / "killed")
    killed.write("begin", "tune-1")
    killed.kill()
    with writing(tmp_path / "open") as process:
        process.write("begin", "tune-1")
        before = contents(tmp_path)
        assert len(before) == 1 + 3 + 3
        with running(tmp_path) as served:
            for path in ("/", "/study/done"):
                served.page(path)
            assert "tuning, configurations near the best, stopped" in served.page("/study/killed")
            assert "tuning, configurations near the best, running" in served.page("/study/open")
        assert contents(tmp_path) == before


@pytest.mark.parametrize("end", ["-wal", "-shm"])
def test_a_log_that_leads_elsewhere_is_not_opened(tmp_path, end):
    process = Process(tmp_path / "s")
    process.write("begin", "tune-1")
    process.kill()
    file = tmp_path / "s" / f"{FILE}{end}"
    shutil.move(file, tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").read_bytes()
    assert "is missing a file of its log" in StudyPage(Study("s", tmp_path / "s"), up=True).make("v")
    assert (tmp_path / "elsewhere").read_bytes() == before


@pytest.mark.parametrize("damage", ["text", "cut", "empty", "facts", "curve", "deep"])
def test_a_damaged_study_is_a_line_and_the_others_are_served(tmp_path, damage):
    make(tmp_path / "good")
    path = make(tmp_path / "bad") / FILE
    raw = path.read_bytes()
    if damage in ("facts", "curve", "deep"):
        with sqlite3.connect(path) as db:
            change = {
                "facts": "UPDATE facts SET value = '[1]' WHERE name = 'design'",
                "curve": "UPDATE outcomes SET curve = '{'",
                "deep": f"UPDATE facts SET value = '{'[' * 100_000}' WHERE name = 'design'",
            }[damage]
            db.execute(change)
        db.close()
    else:
        path.write_bytes({"text": b"hello" * 1000, "cut": raw[:5000], "empty": b""}[damage])
    with running(tmp_path) as served:
        page = served.page("/study/bad")
        assert re.search("<h1>[^<]*(damaged|cannot be read)[^<]*</h1>", page)
        assert "Traceback" not in page
        assert "/study/good" in served.page("/")
        assert SENTENCE in served.page("/study/good")


def test_what_cannot_be_read_for_a_moment_is_read_again(tmp_path, monkeypatch):
    """The files do not change after it, so that nothing else tells of it."""
    make(tmp_path / "s", until="tune-1")
    opened, refusals = Store.open.__func__, iter([sqlite3.OperationalError("database is locked")])

    def refuse(cls, *arguments, **options):
        for error in refusals:
            raise error
        return opened(cls, *arguments, **options)

    monkeypatch.setattr(Store, "open", classmethod(refuse))
    with running(tmp_path) as served, served.events("/events/s") as following:
        first = following()
        assert "cannot be read (OperationalError)" in served.page("/study/s")
        assert following() != first
        assert "Not finished" in served.page("/study/s")


def test_hostile_names_stay_text(tmp_path):
    folder = tmp_path / HOSTILE.replace("/", "")
    make(folder, until="tune-3", task=HOSTILE)
    make(tmp_path / "plain", until="tune-3")
    with running(tmp_path) as served:
        for page, path in (("/", "/"), (f"/study/{quote(folder.name)}", "/study/plain")):
            hostile, plain = Elements(served.page(page)), Elements(served.page(path))
            assert {tag for tag, _ in hostile.elements} == {tag for tag, _ in plain.elements}
            assert not any(name.startswith("on") for _, attributes in hostile.elements for name in attributes)
            assert HOSTILE in "".join(hostile.texts)


def test_no_link_is_followed(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    make(outside / "s")
    make(inside / "own")
    (inside / "folder").symlink_to(outside)
    (inside / "file").mkdir()
    (inside / "file" / FILE).symlink_to(outside / "s" / FILE)
    (inside / "loop").symlink_to(inside)
    assert list(find(inside)) == ["own"]
    page = StudyPage(Study("own", inside / "own"), up=True)
    assert SENTENCE in page.make("v")
    (inside / "own" / FILE).unlink()
    (inside / "own" / FILE).symlink_to(outside / "s" / FILE)
    assert "no longer contains a study" in page.make("v")
    shutil.rmtree(inside / "own")
    (inside / "own").symlink_to(outside / "s")
    assert "no longer contains a study" in page.make("v")


def test_pages_kept_are_bounded(tmp_path, monkeypatch):
    from thalweg.serve import app

    for name in "abcde":
        make(tmp_path / name, until="tune-1", names=("sgd", "adam"))
    kept = []
    monkeypatch.setattr(app, "KEPT", 2)
    monkeypatch.setattr(app, "_Pages", lambda root, own=app._Pages: kept.append(own(root)) or kept[-1])
    with running(tmp_path) as served:
        for name in "abcdeabcde":
            served.page(f"/study/{name}")
    assert list(kept[0].kept) == ["d", "e"]


def test_verdicts_come_to_the_index_by_and_by_and_a_bad_study_holds_none_up(tmp_path):
    for name in ("bad", "one", "two"):
        make(tmp_path / name)
    with sqlite3.connect(tmp_path / "bad" / FILE) as db:
        db.execute("UPDATE outcomes SET curve = '{'")
    db.close()
    with running(tmp_path) as served, served.events("/events") as following:
        assert SENTENCE not in served.page("/")
        while served.page("/").count(SENTENCE) < 2:
            following()


def test_a_study_that_goes_on_after_a_night_is_not_late(tmp_path, monkeypatch):
    from thalweg.serve import studies

    make(tmp_path / "s", until="tune-1", trials=8, steps=600)
    study, now = Study("s", tmp_path / "s"), studies.time.time()
    study.signature()
    monkeypatch.setattr(studies.time, "time", lambda: now + 36_000)
    stopped = study.summary()["seconds_left"]
    assert stopped > 0
    with writing(tmp_path / "s", trials=8, steps=600):
        study.signature()
        shown = study.summary()
    assert shown["running"]
    assert shown["seconds_left"] == pytest.approx(stopped)
    assert shown["until"] == pytest.approx(now + 36_000 + stopped)
