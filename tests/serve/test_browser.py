"""The page in a browser: it follows a study as it is written, killed and resumed, and keeps what its reader chose."""

import json
from contextlib import ExitStack

import pytest

from tests import waiting
from tests.compare.test_report import browser, until, visible  # noqa: F401
from tests.serve.running import running
from tests.serve.synthetic import NAMES, RUNGS, Process, make, writing

pytestmark = [pytest.mark.slow, pytest.mark.browser]
LIVE = "document.getElementById('link').textContent === 'live'"


@pytest.fixture
def serving():
    """Serves a folder until the pages are closed."""
    with ExitStack() as stack:
        yield lambda *root, **options: stack.enter_context(running(*root, **options))


@pytest.fixture
def open_page(browser, serving):  # noqa: F811
    """Opens a page and, at the end, finds that nothing was complained of and nothing asked of another server."""
    contexts, complaints, asked = [], [], []

    def open_page(address, **options):
        context = browser.new_context(**{"viewport": {"width": 1000, "height": 900}, **options})
        context.set_default_timeout(1000 * waiting.LONG)
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append((address, request.url)))
        page.goto(address)
        contexts.append(context)
        return page

    open_page.complaints = complaints
    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    for address, url in asked:
        assert url.startswith(("/".join(address.split("/")[:3]) + "/", "data:", "blob:"))


def heading(page, text):
    until(page, f"document.querySelector('h1').textContent.includes({json.dumps(text)})")


def drawn(page, count):
    until(page, f"document.querySelectorAll('.figure .main-svg').length >= {count}")


def test_it_follows_a_study_that_is_killed_and_resumed_to_its_end(tmp_path, serving, open_page):
    served = serving(tmp_path)
    process = Process(tmp_path / "s")
    page = open_page(f"{served.address}/study/s")
    heading(page, "setting up, running")
    page.evaluate("window.same = true")
    process.write("begin", "tune-1")
    heading(page, "configurations near the best, running")
    drawn(page, 4)
    assert page.locator("progress").get_attribute("value") == "640"
    assert page.locator("[data-until]").inner_text().endswith(("left", "thought"))
    assert page.locator("[data-since]").inner_text().endswith(("ago", "just now"))
    process.kill()
    heading(page, "configurations near the best, stopped")
    assert page.locator("code").inner_text() == "thalweg compare made"
    with writing(tmp_path / "s") as process:
        heading(page, "configurations near the best, running")
        process.write("tune-2", "tune-3", "final", "facts")
    until(page, "!document.querySelector('h1').textContent.includes('Not finished')")
    drawn(page, 6)
    assert page.locator("tbody tr").count() >= len(NAMES)
    assert page.evaluate("window.same")  # it was never loaded anew
    assert "which strategy trains it best" in page.title()


def test_what_a_reader_chose_and_where_the_keyboard_is_outlive_an_update(tmp_path, serving, open_page):
    served = serving(tmp_path)
    with writing(tmp_path / "s") as process:
        process.write("begin", "tune-1")
        page = open_page(f"{served.address}/study/s")
        drawn(page, 4)
        page.get_by_role("button", name="linear", exact=True).click()
        page.get_by_role("button", name="sgd").click()
        table = page.get_by_role("region", name="Standing, scrolls sideways")
        table.focus()
        process.write("tune-2", "tune-3")
        heading(page, "final runs")
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Standing, scrolls sideways"
        assert page.get_by_role("button", name="sgd").get_attribute("aria-pressed") == "false"
        assert not any(visible(page, "sensitivity", "sgd"))
        assert all(visible(page, "sensitivity", "adam"))
        page.get_by_role("button", name="linear", exact=True).focus()
        process.write("final", "facts")
        until(page, "!document.querySelector('h1').textContent.includes('Not finished')")
        drawn(page, 6)
        assert page.evaluate("document.activeElement.textContent") == "linear"
        assert page.get_by_role("button", name="linear", exact=True).get_attribute("aria-pressed") == "true"
        assert page.evaluate("document.getElementById('curves')._fullLayout.xaxis.type") == "linear"
        assert not any(visible(page, "ranking", "sgd"))


def test_the_index_follows_every_study_and_works_by_keyboard(tmp_path, serving, open_page):
    for i in range(20):
        make(tmp_path / f"s{i:02d}", until=RUNGS[i % len(RUNGS)], names=("sgd", "adam"))
    served = serving(tmp_path)
    page = open_page(served.address + "/")
    assert page.locator("tbody tr").count() == 20
    until(page, "document.body.textContent.split('it takes at least 7 seeds to compare 2 strategies').length === 5")
    page.keyboard.press("Tab")  # the table, which scrolls
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "s00"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    make(tmp_path / "a-new-one", until="tune-1", names=("sgd", "adam"))
    until(page, "document.querySelectorAll('tbody tr').length === 21")
    assert page.evaluate("document.activeElement.textContent") == "s00"
    page.keyboard.press("Enter")
    page.wait_for_url("**/study/s00")
    page.get_by_role("link", name="All studies").click()
    page.wait_for_url(f"{served.address}/")


def test_the_token_in_the_fragment_lets_in_and_stays_out_of_every_request(tmp_path, serving, open_page):
    make(tmp_path / "s", until="tune-1")
    served = serving(tmp_path, "the-token")
    page = open_page(served.address + "/")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_label("thalweg serve printed the token").fill("another")
    page.keyboard.press("Enter")
    page.get_by_text("That is not the token.").wait_for()
    page.goto(served.address + "/study/s#the-token")
    page.get_by_role("heading", name="Not finished").wait_for()
    assert page.url == f"{served.address}/study/s"
    assert page.evaluate("document.cookie") == ""  # out of a script's reach
    assert not any("the-token" in url for url in asked)
    until(page, LIVE)
    # A browser notes each refusal.
    assert {text.split(":")[0] for text in open_page.complaints} == {"Failed to load resource"}
    open_page.complaints.clear()


def test_it_says_when_the_server_is_gone_and_finds_it_again(tmp_path, serving, open_page):
    make(tmp_path / "s", until="tune-1")
    with running(tmp_path) as served:
        page = open_page(f"{served.address}/study/s")
        until(page, LIVE)
    page.get_by_text("connection lost").wait_for()
    serving(tmp_path, port=served.port)
    until(page, LIVE)
    open_page.complaints.clear()  # a browser notes each refused connection


@pytest.mark.parametrize("path", ["/", "/study/s", "/study/done"])
def test_it_reads_on_a_phone_in_either_scheme_and_without_motion(tmp_path, serving, open_page, path):
    make(tmp_path / "s", until="tune-3")
    make(tmp_path / "done")
    served = serving(tmp_path)
    options = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark", "reduced_motion": "reduce"}
    page = open_page(served.address + path, **options)
    until(page, LIVE)
    if path != "/":
        drawn(page, 4)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("document.getAnimations().length") == 0
    luminance = "(c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number); return (r + g + b) / 765; })"
    shown = "getComputedStyle(document.body)"
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        ground, ink = (page.evaluate(f"{luminance}({shown}.{name})") for name in ("backgroundColor", "color"))
        assert (ground > 0.9 and ink < 0.3) if scheme == "light" else (ground < 0.2 and ink > 0.7)
