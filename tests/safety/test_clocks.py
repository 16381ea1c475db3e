"""No test depends on how fast the machine is: none looks at a clock, sleeps, or has a limit of its own."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = sorted(TESTS.rglob("*.py"))
CLOCKS = {
    "time",
    "time_ns",
    "monotonic",
    "monotonic_ns",
    "perf_counter",
    "perf_counter_ns",
    "process_time",
    "thread_time",
}
SLEEPS = {"time.sleep", "asyncio.sleep"}
# What is excepted, and why.
ALLOWED = {
    "waiting.py": {"time.sleep", "time.monotonic"},  # the one place
    "chaos/faults.py": {
        "time.sleep",
        "time.monotonic",
        "time.time",
    },  # faults at random moments, and a clock that jumps
    "chaos/__main__.py": {"time.monotonic"},  # how long it took, for the page
    "peers/__main__.py": {"time.monotonic"},  # how long it took, for the page
    "chaos/victim.py": {"time.sleep"},  # hangs until it is ended, or takes its time
    "compare/test_report.py": {"page.wait_for_timeout"},  # as the pause of a wait
    "serve/test_pages.py": {"time.time"},  # where a scripted clock begins
}
IN_TEXT = re.compile(rf"\btime\.(sleep|{'|'.join(sorted(CLOCKS))})\(")


def offences(text, name="some.py"):
    """Yields what a test may not do."""
    tree, allowed = ast.parse(text), ALLOWED.get(name, set())
    names = {
        a.asname or a.name: f"{node.module}.{a.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for a in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value:
            found = [match[0][:-1] for match in IN_TEXT.finditer(node.value)]
        elif isinstance(node, ast.Call):
            full = ".".join(ast.unparse(node.func).split(".")[-2:])
            full = names.get(full, full)
            clock = full in SLEEPS or full in {f"time.{clock}" for clock in CLOCKS} or full.endswith("wait_for_timeout")
            found = [full] if clock else []
            limits = [k for k in node.keywords if k.arg in ("timeout", "deadline", "max_time")]
            given = [k.value for k in limits] + (node.args if full.endswith("timeout") and not clock else [])
            numbers = (n for value in given for n in ast.walk(value) if isinstance(n, ast.Constant))
            if any(isinstance(n.value, (int, float)) for n in numbers) and "LONG" not in ast.unparse(node):
                found.append(f"a limit in {full}")
        else:
            continue
        for what in found:
            if what not in allowed:
                yield f"line {node.lineno}: {what}"


def test_no_test_depends_on_a_clock():
    others = (path for path in FILES if path != Path(__file__))  # which has them in words
    texts = {path.relative_to(TESTS).as_posix(): path.read_text(encoding="utf-8") for path in others}
    assert {name: found for name, text in texts.items() if (found := list(offences(text, name)))} == {}
    assert len(texts) > 150


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.sleep(1)",
        "from time import sleep\nsleep(1)",
        "await_ = asyncio.sleep(0.1)",
        "assert time.perf_counter() - began < 5",
        "from time import monotonic as now\nnow()",
        "time.process_time()",
        "settings(deadline=200)",
        "settings(deadline=timedelta(seconds=1))",
        "process.communicate(timeout=30)",
        "run(words, timeout=2 * 60)",
        "socket.create_connection(place, timeout=5)",
        "thread.join(timeout=1.0)",
        "page.set_default_timeout(5000)",
        "page.wait_for_timeout(50)",
        "page.goto(address, timeout=1000)",
        "CODE = '''\nimport time\ntime.sleep(2)\n'''",
    ],
)
def test_the_search_finds_each_of_them(text):
    assert len(list(offences(text))) == 1


@pytest.mark.parametrize(
    "text",
    ["settings(deadline=None)", "run(words, timeout=LONG)", "page.set_default_timeout(1000 * LONG)", "time.time"],
)
def test_the_search_finds_nothing_else(text):
    assert list(offences(text)) == []


def test_property_tests_have_no_deadline():
    from hypothesis import HealthCheck, settings

    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check
