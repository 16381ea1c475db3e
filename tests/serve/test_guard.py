"""Who is let in, and what a page may do: GET alone, nothing outside of the folder, a token beyond loopback."""

import socket

import pytest

from tests.compare.test_report import Elements
from tests.serve.running import running
from tests.serve.synthetic import make
from thalweg.serve import listen, token_for

TOKEN = "a-token-that-nobody-guesses"
PAGES = ["/", "/study/s", "/events", "/events/s"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guard")
    make(folder / "outside")
    make(folder / "root" / "s")
    (folder / "root" / "notes.txt").write_text("private")
    (folder / "secret.txt").write_text("private")
    return folder / "root"


@pytest.fixture(scope="module")
def served(root):
    with running(root) as served:
        yield served


@pytest.fixture(scope="module")
def locked(root):
    with running(root, TOKEN) as served:
        yield served


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/study/s", "/events", "/assets/x/report.js", "/session"])
def test_only_get_is_answered(served, locked, method, path):
    for server in (served, locked):
        status, headers, _ = server.ask(path, method)
        assert (status, headers["allow"]) == (405, "GET")


@pytest.mark.parametrize(
    "path",
    [
        "/study/../outside",
        "/study/..%2foutside",
        "/study/%2e%2e/outside",
        "/study/s/../../outside",
        "/study/s/..",
        "/study//etc/passwd",
        "/study/%2fetc%2fpasswd",
        "/study/s/study.sqlite",
        "/study/notes.txt",
        "/study/s%00",
        "/study/",
        "/study",
        "/study/.",
        "/../secret.txt",
        "/secret.txt",
        "/notes.txt",
        "/events/../outside",
        "/assets/",
        "/assets/x/",
        "/assets/x/..%2f__init__.py",
        "/assets/x/app.py",
        "/assets/x/index.html.j2",
        "/favicon.ico",
        "/study/S",
        "/study/s/",
        "/study/%ff%fe",
        "//study/s",
        "/s",
    ],
)
def test_nothing_else_is_found(served, path):
    status, _, text = served.ask(path)
    assert status == 404
    assert "private" not in text


def test_every_answer_carries_the_policy_and_no_page_asks_for_more(served, locked):
    paths = [(served, path) for path in ("/", "/study/s", "/nowhere")] + [(locked, "/"), (locked, "/session")]
    for server, path in paths:
        _, headers, text = server.ask(path)
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
        for tag, attributes in Elements(text).elements:
            assert not any(name.startswith("on") for name in attributes)
            if tag == "script" and attributes.get("type") != "application/json":
                assert attributes["src"].startswith("/assets/")


def test_files_are_named_by_their_content_and_kept_by_the_browser(served):
    scripts = [a["src"] for tag, a in Elements(served.page("/study/s")).elements if "src" in a]
    assert len(scripts) == 3
    for script in scripts:
        status, headers, text = served.ask(script)
        assert (status, "immutable" in headers["cache-control"], len(text) > 100) == (200, True, True)
        assert headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "localhost:99", "LOCALHOST"])
def test_loopback_answers_to_its_own_names(served, host):
    assert served.ask("/", Host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "[", "[::1"]
)
def test_a_name_that_was_made_to_point_here_learns_nothing(served, host):
    status, _, text = served.ask("/study/s", Host=host)
    assert status in (400, 421)
    assert "made" not in text


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN[:-1]},
        {"Authorization": "Bearer "},
        {"Cookie": "thalweg-1=" + TOKEN},
        {"Cookie": "thalweg-{port}="},
        {"Cookie": ';;=,"='},
        {"Authorization": "Bearer t\u00e4uschung"},
    ],
)
def test_without_the_token_there_is_only_its_question(locked, path, headers):
    shown = {name: value.format(port=locked.port) for name, value in headers.items()}
    status, _, text = locked.ask(path, **{name: value.encode() for name, value in shown.items()})
    assert status == 401
    assert "Enter the token" in text
    assert "made" not in text


def test_the_token_opens_as_a_header_and_as_the_cookie_that_it_buys(locked):
    assert locked.ask("/study/s", Authorization=f"Bearer {TOKEN}")[0] == 200
    assert locked.ask("/session")[0] == 401
    assert locked.ask("/session", Authorization="Bearer wrong")[0] == 401
    status, headers, _ = locked.ask("/session", Authorization=f"Bearer {TOKEN}")
    assert status == 204
    cookie, *flags = headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(flags)
    status, _, text = locked.ask("/study/s", Cookie=cookie)
    assert status == 200
    assert TOKEN not in text
    with locked.events("/events/s", Cookie=cookie) as following:
        assert following()


def test_an_address_takes_no_token(locked):
    assert locked.ask(f"/?token={TOKEN}")[0] == 401


def test_only_loopback_goes_without_a_token():
    for host, needed in (("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)):
        with listen(host, 0) as listener:
            assert (token_for(listener) is not None) == needed
    with listen("0.0.0.0", 0) as listener:
        assert len({token_for(listener) for _ in range(10)}) == 10
        assert len(token_for(listener)) >= 43


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_ipv6_loopback_is_loopback():
    try:
        listener = listen("::1", 0)
    except ValueError:
        pytest.skip("no IPv6 loopback")
    with listener:
        assert token_for(listener) is None


def test_a_port_that_is_taken_is_one_line():
    with (
        listen("127.0.0.1", 0) as listener,
        pytest.raises(ValueError, match="cannot listen on .*: choose another --host"),
    ):
        listen("127.0.0.1", listener.getsockname()[1])
    with pytest.raises(ValueError, match="cannot listen on nowhere.invalid"):
        listen("nowhere.invalid", 0)
