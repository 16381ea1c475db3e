"""The report is inert and whole, whatever the names in it; a browser draws every figure and obeys every switch."""

import base64
import copy
import hashlib
import json
import os
import re
import shutil
from html.parser import HTMLParser

import pytest

import thalweg
from tests.compare.small import small_task
from tests.waiting import LONG
from thalweg.compare.report import render

HOSTILE = '</script><script>document.title="broken"</script><img src=x onerror=alert(1)>{{7*7}}"\'&'
OF_STRATEGIES = ["ranking", "curves", "sensitivity", "expected", "target", "divergences"]
FIGURES = [*OF_STRATEGIES, "depth"]
FINDING = ["kind", "layer", "meaning", "fix"]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
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
        s["test"] |= {"low": None, "high": None}
        s["to_target"] |= {"steps": None, "gradient_evaluations": None, "seconds": None, "reached": 0}
        s["diverged"] = s["trials"]
        for field in ("train_loss", "valid_metric"):
            s["curves"][field] = {k: [None] * len(v) for k, v in s["curves"][field].items()}
        for point in s["sensitivity"]:
            point |= {"valid": None, "status": "diverged"}
        empty["expected_best"][s["name"]] = [None] * s["trials"]
    text = render(empty)
    assert "a target that no strategy reached" in text
    assert "NaN" not in Elements(text).scripts[0]


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        missing = "no chromium: install the package chromium to run the browser tests"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS, timeout=1000 * LONG)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, tmp_path):
    """Opens a report and, at the end, finds that nothing was complained of and nothing asked of the network."""
    pages, complaints, asked = [], [], []

    def open_page(results, **options):
        (tmp_path / "report.html").write_text(render(results), encoding="utf-8")
        page = browser.new_page(**{"viewport": {"width": 1000, "height": 900}, **options})
        page.set_default_timeout(1000 * LONG)
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "report.html").as_uri())
        page.wait_for_function("document.querySelectorAll('.figure .main-svg').length >= 6")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)


def visible(page, figure, name):
    traces = f"document.getElementById('{figure}').data.filter(t => t.meta.strategy === {json.dumps(name)})"
    return page.evaluate(f"{traces}.map(t => t.visible)")


@pytest.mark.browser
def test_each_figure_is_drawn(open_page, results):
    page = open_page(results)
    assert page.locator("h1").inner_text() == results["verdict"]["sentence"]
    for figure in FIGURES:
        marks = page.locator(f"#{figure} .trace path, #{figure} .point path, #{figure} .scatterlayer path")
        assert marks.count() > 0, figure
        box = page.locator(f"#{figure} .main-svg").first.bounding_box()
        assert box["width"] > 300, figure
        assert box["height"] > 100, figure
        titles = page.locator(f"#{figure} .xtitle, #{figure} .x2title").all_text_contents()
        assert any(titles), figure


@pytest.mark.browser
def test_a_click_on_the_legend_hides_and_shows_a_strategy_everywhere(open_page, results):
    page = open_page(results)
    button = page.get_by_role("button", name="adam")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    for figure in OF_STRATEGIES:
        assert not any(visible(page, figure, "adam")), figure
        assert all(visible(page, figure, "sgd")), figure
    button.click()
    assert all(visible(page, figure, "adam") for figure in OF_STRATEGIES)


@pytest.mark.browser
def test_it_works_by_keyboard_alone(open_page, results):
    page = open_page(results)
    page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.dataset.strategy")
    assert first == results["strategies"][0]["name"]
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Space")
    assert not any(visible(page, "ranking", first))
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("details table").is_visible()


@pytest.mark.browser
def test_axes_switch_between_evaluations_and_seconds_log_and_linear(open_page, results):
    page = open_page(results)
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


@pytest.mark.browser
def test_one_far_off_does_not_hide_the_differences_of_the_rest(open_page, results):
    far = copy.deepcopy(results)
    far["strategies"][-1]["test"] |= {"mean": -9.0, "low": -9.1, "high": -8.9, "per_seed": [-9.0] * 6}
    page = open_page(far)
    span = "document.getElementById('ranking')._fullLayout.xaxis.range"
    assert page.evaluate(span)[0] > -2
    page.get_by_role("button", name="everything").click()
    assert page.evaluate(span)[0] < -9


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_reads_on_a_phone_and_in_dark_mode(open_page, results, scheme):
    page = open_page(results, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    luminance = "(c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number); return (r + g + b) / 765; })"
    ground, ink = (
        page.evaluate(f"{luminance}({colour})")
        for colour in (
            "getComputedStyle(document.body).backgroundColor",
            "getComputedStyle(document.querySelector('#ranking .xtitle')).fill",
        )
    )
    assert (ground > 0.9 and ink < 0.3) if scheme == "light" else (ground < 0.2 and ink > 0.7)
    for figure in FIGURES:
        assert page.locator(f"#{figure} .main-svg").first.bounding_box()["width"] <= 360


@pytest.mark.browser
def test_hostile_names_do_nothing_in_a_browser(open_page, hostile):
    page = open_page(hostile)
    assert page.evaluate("document.title").startswith(HOSTILE)
    page.get_by_role("button", name=HOSTILE).click()
    assert not any(visible(page, "ranking", HOSTILE))
    assert page.locator("img").count() == 0
