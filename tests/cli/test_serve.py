"""``thalweg serve`` as a user starts and stops it."""

import http.client
import re
import signal
import socket
import subprocess
import sys

import pytest

from tests.command import command, script
from tests.serve.synthetic import make
from tests.waiting import LONG

SERVE = [sys.executable, "-m", "thalweg", "serve"]


def started(*arguments):
    return subprocess.Popen(
        [*SERVE, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # also where these tests run in the background
    )


def ask(port, path="/", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_it_prints_a_free_port_serves_and_stops(tmp_path):
    make(tmp_path / "s", until="tune-1", names=("sgd", "adam"))
    process = started(str(tmp_path), "--port", "0")
    line = process.stdout.readline()
    port = int(re.fullmatch(rf"studies in {tmp_path}: http://127\.0\.0\.1:(\d+)/\n", line)[1])
    status, text = ask(port)
    assert status == 200
    assert "/study/s" in text
    stream = socket.create_connection(("127.0.0.1", port), timeout=LONG)  # somebody still watches
    stream.sendall(b"GET /events/s HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert stream.recv(12) == b"HTTP/1.1 200"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LONG)
    stream.close()
    assert (process.returncode, out, err) == (0, "stopped\n", "")


def test_beyond_loopback_it_prints_a_token_once_and_never_again(tmp_path):
    make(tmp_path / "s", until="tune-1", names=("sgd", "adam"))
    process = started(str(tmp_path), "--port", "0", "--host", "0.0.0.0")
    process.stdout.readline()
    port, token = re.search(r":(\d+)/#(\S+)", process.stdout.readline()).groups()
    assert ask(int(port))[0] == 401
    assert ask(int(port), Authorization=f"Bearer {token}")[0] == 200
    assert ask(int(port), f"/?{token}")[0] == 401
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=LONG)
    assert token not in out + err


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [(["nowhere"], "there is no folder nowhere"), (["--host", "nowhere.invalid"], "choose another --host or --port")],
)
def test_bad_input_is_one_line_and_exit_2(tmp_path, arguments, needle):
    done = command("serve", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert needle in done.stderr
    assert len(done.stderr.splitlines()) == 1


HIDDEN = """
import sys
from thalweg.cli.main import run

sys.modules["uvicorn"] = None
run()
"""


def test_without_its_extra_it_says_what_to_install(tmp_path):
    done = script(HIDDEN, "serve", str(tmp_path))
    assert done.returncode == 2
    assert "pip install 'thalweg[serve]'" in done.stderr


def test_help_has_an_example():
    assert "Example: thalweg serve" in command("serve", "--help").stdout.replace("`", "")
