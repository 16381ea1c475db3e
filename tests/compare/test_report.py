"""The report is inert and whole, whatever the names in it; a browser draws every figure and obeys every switch."""

import base64
import copy
import hashlib
import json
import os
import re
import shutil
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import pytest

import thalweg
from tests import waiting
from tests.compare.small import small_task
from tests.serve.synthetic import make
from thalweg.compare.comparison import Comparison
from thalweg.compare.report import render
from thalweg.compare.report.page import PLOTLY, asset
from thalweg.compare.report.traces import GREY, LONGEST

ROOT = Path(__file__).parents[2]
HOSTILE = '</script><script>document.title="broken"</script><img src=x onerror=alert(1)>{{7*7}}"\'&'
OF_STRATEGIES = ["ranking", "curves", "sensitivity", "expected", "target", "divergences"]
FIGURES = [*OF_STRATEGIES, "depth"]
FINDING = ["kind", "layer", "meaning", "fix"]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-software-rasterizer",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    strategies = ("sgd", "adam", "rmsprop@cosine")
    out = tmp_path_factory.mktemp("report") / "out"
    done = thalweg.compare(
        small_task(description="a small one"), strategies, trials=4, steps=40, seeds=6, engine="serial", out=out
    )
    results = json.loads(json.dumps(done.results))
    results["strategies"][0]["diverged"] = 1  # so that every figure has something to show
    results["diagnosis"]["findings"] = [dict.fromkeys(FINDING, "words") | {"severity": "warning", "figure": None}]
    return results


def everywhere(value, old, new):
    """Returns the value with every string and key that is ``old`` replaced by ``new``."""
    if isinstance(value, dict):
        return {(new if k == old else k): everywhere(v, old, new) for k, v in value.items()}
    if isinstance(value, list):
        return [everywhere(v, old, new) for v in value]
    return new if value == old else value


@pytest.fixture(scope="module")
def hostile(results):
    bad = everywhere(results, "adam", HOSTILE)
    bad["task"] |= {"name": HOSTILE, "description": HOSTILE, "metric": HOSTILE}
    bad["verdict"]["sentence"] = bad["run"]["command"] = bad["engine"][0]["reason"] = HOSTILE
    bad["notes"][0] = HOSTILE
    bad["diagnosis"]["findings"] = [dict.fromkeys(FINDING, HOSTILE) | {"severity": "warning", "figure": None}]
    bad["diagnosis"]["profile"][0]["layer"] = HOSTILE
    return bad


class Elements(HTMLParser):
    """Collects the elements of a page, and the text of its scripts."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.scripts, self.texts, self.inside = [], [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.inside = tag
        self.elements.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        self.texts.append(data)

    def handle_endtag(self, tag):
        self.inside = None


def test_hostile_names_stay_text(results, hostile):
    plain, page = Elements(render(results)), Elements(render(hostile))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert HOSTILE in page.texts
    assert json.loads(page.scripts[0])["strategies"].count(HOSTILE) == 1
    for figure in json.loads(page.scripts[0])["figures"].values():
        drawn = json.dumps([trace.get("name") for trace in figure["data"]]) + json.dumps(figure["layout"])
        assert "<" not in drawn  # Plotly reads some markup in names and titles


def test_only_scripts_of_known_content_may_run_and_nothing_is_loaded(results):
    page = Elements(render(results))
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    executed = page.scripts[1:]  # the first is the data
    assert {base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in executed} == allowed
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1]
    assert not any("src" in a or "href" in a for _, a in page.elements)


def test_the_script_that_draws_is_as_it_was_published_and_reports_are_small(results):
    script, documented = asset(PLOTLY), (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    assert hashlib.sha256(script.encode()).hexdigest() in documented
    version = re.search(r"\(basic - minified\) v([\d.]+)", script)[1]
    assert f"`plotly.js-basic-dist-min` {version}" in documented
    page = render(results)
    assert len(page.encode()) < 1_500_000
    kinds = {trace["type"] for f in json.loads(Elements(page).scripts[0])["figures"].values() for trace in f["data"]}
    assert kinds <= {"scatter", "bar"}  # all that this part of Plotly draws


def test_a_large_study_draws_some_of_its_points_and_says_so(results):
    large, few = copy.deepcopy(results), len(render(results))
    for s in large["strategies"]:
        points = [{"lr": 1e-3 * (i + 1), "valid": 0.5 - 1e-6 * i, "status": "finished"} for i in range(20_000)]
        points[12_345] = {"lr": 12.346, "valid": 0.999, "status": "finished"}
        points[7] |= {"valid": None, "status": "diverged"}
        s["sensitivity"], large["expected_best"][s["name"]] = points, [0.5] * 20_000
    text = render(large)
    assert (
        "Of 20,000 configurations per strategy, 3,333 are drawn, evenly chosen; results.json contains all of them."
        in text
    )
    assert "Of 20,000 values of k per strategy, 3,333 are drawn" in text
    assert "are drawn" not in render(results)
    assert len(text) - few < 2_000_000
    plots = json.loads(Elements(text).scripts[0])["figures"]
    assert all(0.999 in trace["y"] for trace in plots["sensitivity"]["data"] if trace["mode"] == "lines+markers")
    assert all(trace["x"][:20] == list(range(1, 21)) for trace in plots["expected"]["data"])


def test_a_study_where_all_failed_still_has_a_report(results):
    empty = copy.deepcopy(results)
    empty["task"]["target"] = None
    for s in empty["strategies"]:
        s["valid"] = None
        s["test"] |= {"typical": None, "low": None, "high": None, "per_seed": [None] * 6}
        s["failed"] |= {"count": 6, "low": 0.54, "high": 1.0}
        for run in s["runs"]:
            run |= {"test": None, "valid": None, "failed": True, "steps_to_target": None}
        s["to_target"] |= {"steps": None, "gradient_evaluations": None, "seconds": None, "reached": 0}
        s["diverged"] = s["trials"]
        for field in ("train_loss", "valid_metric"):
            s["curves"][field] = {k: [None] * len(v) for k, v in s["curves"][field].items()}
        for point in s["sensitivity"]:
            point |= {"valid": None, "status": "diverged"}
        empty["expected_best"][s["name"]] = [None] * s["trials"]
    text = render(empty)
    assert all(NOTHING[figure] in text for figure in ("ranking", "curves", "expected", "target"))
    assert all(s not in text for s in (NOTHING["sensitivity"], NOTHING["divergences"]))
    assert "NaN" not in Elements(text).scripts[0]


NOTHING = {
    "ranking": "No final run ended with a number.",
    "curves": "No run trained, so there are no learning curves.",
    "sensitivity": "No strategy has a learning rate that is tuned.",
    "expected": "No configuration was trained to its end.",
    "target": "No strategy reached ",
    "divergences": "configurations diverged.",
}

HIGH, LOW = ([level + 0.01 * (i % 5) for i in range(10)] for level in (0.9, 0.6))
MADE = {  # test scores of the final runs of each strategy
    "one is best": {"sgd": LOW, "adam": HIGH},
    "equal scores": {"sgd": HIGH, "adam": HIGH},
    "some runs failed": {"sgd": LOW, "adam": [*HIGH[:6], 0.1, 0.1, None, None]},
    "one strategy failed": {"sgd": LOW, "adam": [None] * 10},
    "all runs failed": {"sgd": [0.1, 0.1, None, 0.05], "adam": [None, 0.1, 0.1, 0.1]},
    "all runs diverged": {"sgd": [None] * 4, "adam": [None] * 4},
    "one seed": {"sgd": [0.6], "adam": [0.9]},
    "one strategy": {"sgd": LOW},
    "one run": {"sgd": [0.6]},
}


@pytest.fixture(params=MADE)
def made(request, tmp_path):
    """Returns the case and the comparison of a made-up study."""
    return request.param, Comparison.open(make(tmp_path / "s", tests=MADE[request.param]))


SENTENCES = {
    "one is best": "Use adam (lr 0.001): every other strategy did worse.",
    "equal scores": "No strategy is surely better; use sgd (lr 0.001), among the cheapest of the two that tie.",
    "some runs failed": "No strategy is surely better; use adam (lr 0.001), among the cheapest of the two that tie.",
    "one strategy failed": "Use sgd (lr 0.001): every other strategy did worse.",
    "all runs failed": "No strategy trained the model: every final run failed.",
    "all runs diverged": "No strategy trained the model: every final run failed.",
    "one seed": "No verdict: it takes at least 7 seeds to compare 2 strategies (--seeds 7).",
    "one strategy": "Only sgd was run, so there is nothing to compare it with.",
    "one run": "Only sgd was run, so there is nothing to compare it with.",
}
FAILED = {
    "some runs failed": "Failed runs: adam 4 of 10 (true rate 12 to 74 %); the others none (at most 31 %).",
    "one strategy failed": "Failed runs: adam 10 of 10 (true rate 69 to 100 %); the others none (at most 31 %).",
    "all runs failed": "Failed runs: sgd 4 of 4 (true rate 40 to 100 %), adam 4 of 4 (true rate 40 to 100 %).",
    "all runs diverged": "Failed runs: sgd 4 of 4 (true rate 40 to 100 %), adam 4 of 4 (true rate 40 to 100 %).",
    "one seed": "Failed runs: none (true rate at most 98 %).",
    "one run": "Failed runs: none (true rate at most 98 %).",
}


def cells(page, title):
    """Returns the text of each row's cells, of the table after a title."""
    table = page.split(f">{title}<")[1].split("</table>")[0]
    rows = re.findall("<tr[^>]*>(.*?)</tr>", table, re.DOTALL)
    return [[re.sub("<[^>]*>", "", cell).strip() for cell in re.findall("<t[hd].*?</t[hd]>", row)] for row in rows]


def test_a_report_says_what_its_runs_bear_out(made):
    case, done = made
    page = render(done.results)
    texts = Elements(page).texts
    assert done.verdict == SENTENCES[case]
    assert {done.verdict, *done.details} <= set(texts)
    assert FAILED.get(case, "Failed runs: none (true rate at most 31 %).") in done.details
    figures = json.loads(Elements(page).scripts[0])["figures"]
    assert list(figures) == [f for f in OF_STRATEGIES if f in figures]
    for figure in {*OF_STRATEGIES} - {*figures}:
        assert NOTHING[figure] in page, figure
        assert f'id="{figure}"' not in page
    assert not re.search("NaN|Infinity", Elements(page).scripts[0])
    tests, seeds = MADE[case], len(MADE[case]["sgd"])
    head, *rows = cells(page, "In numbers")
    assert {row[head.index("strategy")] for row in rows} == set(tests)
    for row in rows:
        scores = tests[row[0]]
        known = [v for v in scores if v is not None and v > 0.15]
        assert row[head.index("failed runs")] == f"{seeds - len(known)} of {seeds}"
        assert row[head.index("tuned to")] == "lr 0.001"
        assert (row[1] == "–") == (not known)
        assert (row[2] == "–") == (len(known) < 2)
    # A dot or a cross for each score.
    for failed, symbol in ((False, "circle"), (True, "x")):
        for name, scores in tests.items():
            ranking = figures["ranking"]["data"] if "ranking" in figures else []
            marks = [t for t in ranking if t["name"] == name and t["marker"].get("opacity")]
            drawn = [v for t in marks if t["marker"]["symbol"] == symbol for v in t["x"]]
            assert drawn == [v for v in scores if v is not None and (v <= 0.15) == failed]
    crosses = "Runs that failed are crosses, and those that diverged are left out."
    has_failed = any(s["failed"]["count"] for s in done.results["strategies"])
    assert (crosses in page) == (has_failed and "ranking" in figures)


def test_the_strategies_that_could_be_the_best_are_marked_where_others_are_behind(made):
    case, done = made
    page = render(done.results)
    marked = re.findall(r'<tr class="best"><th scope="row">(\w+)<', page)
    assert marked == {"one is best": ["adam"], "one strategy failed": ["sgd"]}.get(case, [])
    assert ("Only the shaded strategy could be the best; the others are behind." in page) == bool(marked)


def test_several_that_could_be_the_best_are_marked(tmp_path):
    done = Comparison.open(make(tmp_path / "s", tests={"sgd": LOW, "adam": HIGH, "rmsprop": HIGH}))
    page = render(done.results)
    assert re.findall(r'<tr class="best"><th scope="row">(\w+)<', page) == ["adam", "rmsprop"]
    assert "The shaded strategies could be the best; the others are behind." in page


def test_of_many_strategies_those_that_could_be_the_best_have_a_colour_and_lie_above_the_others(tmp_path):
    tests = {f"sgd+he@{i}": LOW for i in range(61)} | {f"adam+he@{i}": HIGH for i in range(3)}
    names = {name: name.replace("@", "-") for name in tests}
    few = Comparison.open(make(tmp_path / "s", tests={"sgd": LOW, "adam": HIGH})).results
    low, high = (next(s for s in few["strategies"] if s["name"] == name) for name in ("sgd", "adam"))
    made = [{**(high if name.startswith("adam") else low), "name": names[name]} for name in tests]
    best = [s["name"] for s in made if s["name"].startswith("adam")]
    many = {**few, "strategies": made, "verdict": {**few["verdict"], "candidates": best, "use": best[0]}}
    many["expected_best"] = {s["name"]: [0.5] * 5 for s in made}
    page = render(many)
    curves = json.loads(Elements(page).scripts[0])["figures"]["curves"]["data"]
    lines = [(t["meta"]["strategy"], t["line"]["color"]) for t in curves if t["line"]["width"]]
    assert [name for name, _ in lines[-6:]] == [name for name in best for _ in "ab"]
    assert len({colour for name, colour in lines if name in best}) == 3
    assert {colour for name, colour in lines if name not in best} == {GREY}
    assert len(lines) == len(curves)  # bands of so many would hide each other
    assert "<summary>61 in grey</summary>" in page


def test_long_names_of_layers_are_shortened_in_the_middle_and_whole_on_hover(results):
    long = copy.deepcopy(results)
    name = "model.encoder.layers.11.attention.self.output.dense"
    for i, layer in enumerate(long["diagnosis"]["profile"]):
        layer["layer"] = name.replace("11", str(11 + i)) if i else name
    long["diagnosis"]["findings"][0]["layer"] = name
    page = render(long)
    depth = json.loads(Elements(page).scripts[0])["figures"]["depth"]
    axis = depth["layout"]["xaxis"]
    assert axis["tickvals"][0] == name
    assert len({*axis["ticktext"]}) == len(axis["tickvals"]) > 1
    assert max(map(len, axis["ticktext"])) <= LONGEST
    assert "11" in axis["ticktext"][0]
    assert all(name in (trace.get("text") or trace["hovertext"]) for trace in depth["data"])
    assert f'title="{name}">model.encoder…output.dense</td>' in page


def test_the_recommended_configuration_can_be_pasted(tmp_path):
    done = Comparison.open(make(tmp_path / "s", tests={"sgd": LOW, "adam": HIGH}))
    texts = Elements(render(done.results)).texts
    assert "import torch\n\noptimizer = torch.optim.Adam(model.parameters(), lr=0.001)" in texts
    assert "thalweg train my.py:task --strategy adam --steps 60 --set lr=0.001" in texts
    none = Comparison.open(make(tmp_path / "t", tests={"sgd": [None] * 8, "adam": [None] * 8}))
    assert "To use" not in render(none.results)


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_seeds_that_are_too_few_are_not_said_to_be_of_no_use(tmp_path, seeds):
    done = Comparison.open(make(tmp_path / "s", tests={"sgd": LOW[:seeds], "adam": HIGH[:seeds]}))
    assert done.verdict == "No verdict: it takes at least 7 seeds to compare 2 strategies (--seeds 7)."
    assert not any("unlikely" in line or "would not" in line for line in done.details)
    named = re.findall(r"About (\d+) seeds", " ".join(done.details))
    assert all(int(count) >= 7 for count in named)


def test_a_metric_that_stays_as_it_is_recommends_nothing(tmp_path):
    """It says nothing about any strategy, which is what the report says too."""
    folder = make(tmp_path / "s", tests=dict.fromkeys(("sgd", "adam"), [0.5] * 8), learned_nothing=0.5)
    done = Comparison.open(folder)
    verdict = done.results["verdict"]
    assert (verdict["use"], verdict["winner"], verdict["behind"]) == (None, None, [])
    assert "use" not in done.verdict.lower()
    assert done.verdict in Elements(render(done.results)).texts
    assert all(p["better"] is None for p in done.results["pairs"])


def test_the_bars_of_sensitivity_are_the_final_runs_and_the_recommended_one_is_taller(made):
    _, done = made
    figure = json.loads(Elements(render(done.results)).scripts[0])["figures"]["sensitivity"]
    lowest = min(y for trace in figure["data"] for y in trace["y"])
    for s in done.results["strategies"]:
        bars = [t for t in figure["data"] if t["name"] == s["name"] and t["marker"]["symbol"] == "line-ns"]
        tallest = max(bars, key=lambda t: t["marker"]["size"])
        assert set(tallest["x"]) == {s["hyperparameters"]["lr"]}
        drawn = sorted((x, y) for t in bars for x, y in zip(t["x"], t["y"], strict=True))
        ends = [(r["hyperparameters"]["lr"], lowest if r["valid"] is None else r["valid"]) for r in s["runs"]]
        assert drawn == sorted(ends)
        assert len(bars) == (1 if len(ends) == 1 else 2)


def test_what_is_recommended_is_drawn_where_no_run_trained_with_it(results):
    left = copy.deepcopy(results)
    left["strategies"][0]["hyperparameters"] = {"lr": 0.0123}
    figure = json.loads(Elements(render(left)).scripts[0])["figures"]["sensitivity"]
    bars = [t for t in figure["data"] if t["marker"]["symbol"] == "line-ns" and 0.0123 in t["x"]]
    assert [t["y"] for t in bars] == [[left["strategies"][0]["valid"]]]


def test_a_pair_that_failed_runs_leave_open_has_a_dash(made):
    case, done = made
    for a, b, difference, interval, _, better in cells(render(done.results), "Every pair")[1:]:
        assert {a, b} == {"sgd", "adam"}
        assert better == {"one is best": "adam", "one strategy failed": "sgd"}.get(case, "–")
        assert (difference == "–") == ("failed" in case or "diverged" in case)
        nothing_known = ("one strategy failed", "one seed", "all runs failed", "all runs diverged")
        assert (interval == "–") == (case in nothing_known)
        assert interval.endswith("to –") == (case == "some runs failed")


def test_a_study_of_the_former_protocol_says_so(tmp_path):
    done = Comparison.open(make(tmp_path / "s", tests=MADE["one is best"], protocol=1))
    page = render(done.results)
    assert done.verdict == SENTENCES["one is best"]
    assert "All runs of a strategy share one tuning, so this leaves out the luck of tuning." in Elements(page).texts
    assert "This study was run by a former protocol" in page


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        missing = "no chromium: install the package chromium to run the browser tests"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS, timeout=1000 * waiting.LONG)
        yield chromium
        chromium.close()


@contextmanager
def opening(browser, folder):
    """Opens reports and, at the end, finds that nothing was complained of and nothing asked of the network."""
    pages, complaints, asked = [], [], []

    def open_page(results, **options):
        (folder / "report.html").write_text(render(results), encoding="utf-8")
        page = browser.new_page(**{"viewport": {"width": 1000, "height": 900}, **options})
        page.set_default_timeout(1000 * waiting.LONG)
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((folder / "report.html").as_uri())
        until(page, "[...document.querySelectorAll('.figure')].every(f => f.querySelector('.main-svg'))")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)


@pytest.fixture
def open_page(browser, tmp_path):
    with opening(browser, tmp_path) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def page(browser, results, tmp_path_factory):
    """The report of the results; opening one takes seconds, and each test leaves this one as it was."""
    with opening(browser, tmp_path_factory.mktemp("page")) as open_page:
        yield open_page(results)


def until(page, expression):
    """Waits for the expression to be true; the page's policy lets playwright's own waiting evaluate nothing."""
    waiting.until(lambda: page.evaluate(expression), lambda seconds: page.wait_for_timeout(1000 * seconds))


def visible(page, figure, name):
    traces = f"document.getElementById('{figure}').data.filter(t => t.meta.strategy === {json.dumps(name)})"
    return page.evaluate(f"{traces}.map(t => t.visible)")


@pytest.mark.browser
def test_each_figure_is_drawn(page, results):
    assert page.locator("h1").inner_text() == results["verdict"]["sentence"]
    assert page.locator(".details li").all_inner_texts() == results["verdict"]["details"]
    for figure in FIGURES:
        marks = page.locator(f"#{figure} .trace path, #{figure} .point path, #{figure} .scatterlayer path")
        assert marks.count() > 0, figure
        box = page.locator(f"#{figure} .main-svg").first.bounding_box()
        assert box["width"] > 300, figure
        assert box["height"] > 100, figure
        titles = page.locator(f"#{figure} .xtitle, #{figure} .x2title").all_text_contents()
        assert any(titles), figure


@pytest.mark.browser
@pytest.mark.parametrize("made", ["some runs failed", "all runs diverged", "one run"], indirect=True)
def test_each_figure_is_drawn_where_runs_failed_or_are_few(open_page, made):
    page = open_page(made[1].results)
    assert page.locator("h1").inner_text() == made[1].verdict
    shown = page.locator(".figure").evaluate_all("all => all.map(e => e.id)")
    assert shown
    for figure in shown:
        assert page.locator(f"#{figure} .main-svg").first.bounding_box()["width"] > 300, figure


@pytest.mark.browser
def test_nothing_is_cut(open_page, results):
    """Neither the page nor a table scrolls sideways, on a phone neither, and every cell has its title there."""
    many = copy.deepcopy(results)
    tuned = {"lr": 0.123456, "momentum": 0.912345, "weight_decay": 0.000123456, "a_name_that_is_as_long_as_this": 1.0}
    many["strategies"][0] |= {"hyperparameters": tuned, "space": {name: [0.1, 1.0] for name in tuned}}
    page = open_page(many)
    page.locator("summary").click()
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        until(page, f"document.documentElement.scrollWidth === {width}")  # figures follow the window
        for table in page.locator(".cards").all():
            widths = table.evaluate("e => [e.parentElement.scrollWidth, e.parentElement.clientWidth]")
            assert widths[0] <= widths[1], (width, table.inner_text()[:80])
        assert page.locator("#numbers thead").is_visible() == (width == 1280)
    titles = page.locator("#numbers tbody tr").first.locator("td").evaluate_all("all => all.map(e => e.dataset.title)")
    assert titles == page.locator("#numbers thead th").all_text_contents()[1:]
    seen = "e => getComputedStyle(e, '::before').content"
    assert page.locator("#numbers td").first.evaluate(seen) == f'"{titles[0]}"'


@pytest.mark.browser
def test_a_click_on_the_legend_hides_and_shows_a_strategy_everywhere(page):
    button = page.get_by_role("button", name="adam")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    for figure in OF_STRATEGIES:
        assert not any(visible(page, figure, "adam")), figure
        assert all(visible(page, figure, "sgd")), figure
    button.click()
    assert all(visible(page, figure, "adam") for figure in OF_STRATEGIES)


@pytest.mark.browser
def test_it_works_by_keyboard_alone(page, results):
    page.evaluate("document.body.tabIndex = -1, document.body.focus(), document.body.removeAttribute('tabindex')")
    page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.dataset.strategy")
    assert first == results["strategies"][0]["name"]
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Space")
    assert not any(visible(page, "ranking", first))
    page.keyboard.press("Space")
    assert all(visible(page, "ranking", first))
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("details table").is_visible()
    page.keyboard.press("Enter")
    assert not page.locator("details table").is_visible()


@pytest.mark.browser
def test_axes_switch_between_evaluations_and_seconds_log_and_linear(page, results):
    ends = "document.getElementById('curves').data.map(t => Math.max(...t.x))"
    steps = page.evaluate(ends)
    page.get_by_role("button", name="seconds", exact=True).click()
    per_step = {s["name"]: s["seconds_per_step"] for s in results["strategies"]}
    names = page.evaluate("document.getElementById('curves').data.map(t => t.meta.strategy)")
    expected = [step * per_step[name] for step, name in zip(steps, names, strict=True)]
    assert page.evaluate(ends) == pytest.approx(expected)
    assert "seconds" in page.locator("#curves .x2title").text_content()
    page.get_by_role("button", name="linear", exact=True).click()
    types = "(({xaxis, xaxis2, yaxis}) => [xaxis.type, xaxis2.type, yaxis.type])"
    assert page.evaluate(f"{types}(document.getElementById('curves')._fullLayout)") == ["linear"] * 3
    page.get_by_role("button", name="evaluations", exact=True).click()
    assert page.evaluate(ends) == steps
    page.get_by_role("button", name="log", exact=True).click()
    assert "log" in page.evaluate(f"{types}(document.getElementById('curves')._fullLayout)")


@pytest.mark.browser
def test_one_far_off_does_not_hide_the_differences_of_the_rest(open_page, results):
    far = copy.deepcopy(results)
    far["strategies"][-1]["test"] |= {"typical": -9.0, "low": -9.1, "high": -8.9, "per_seed": [-9.0] * 6}
    for run in far["strategies"][-1]["runs"]:
        run |= {"test": -9.0, "failed": False}
    page = open_page(far)
    span = "document.getElementById('ranking')._fullLayout.xaxis.range"
    assert page.evaluate(span)[0] > -2
    page.get_by_role("button", name="everything").click()
    assert page.evaluate(span)[0] < -9


@pytest.mark.browser
def test_it_reads_on_a_phone_in_dark_mode_and_once_that_is_switched_off(open_page, results):
    page = open_page(results, viewport={"width": 360, "height": 740}, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    readable(page, "dark")
    page.emulate_media(color_scheme="light")
    readable(page, "light")
    for figure in FIGURES:
        assert page.locator(f"#{figure} .main-svg").first.bounding_box()["width"] <= 360


def readable(page, scheme):
    """Asserts that ink and ground are those of the scheme."""
    luminance = "(c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number); return (r + g + b) / 765; })"
    ground, ink = (
        page.evaluate(f"{luminance}({colour})")
        for colour in (
            "getComputedStyle(document.body).backgroundColor",
            "getComputedStyle(document.querySelector('#ranking .xtitle')).fill",
        )
    )
    assert (ground > 0.9 and ink < 0.3) if scheme == "light" else (ground < 0.2 and ink > 0.7)


@pytest.mark.browser
def test_hostile_names_do_nothing_in_a_browser(open_page, hostile):
    page = open_page(hostile)
    assert page.evaluate("document.title").startswith(HOSTILE)
    page.get_by_role("button", name=HOSTILE).click()
    assert not any(visible(page, "ranking", HOSTILE))
    assert page.locator("img").count() == 0
