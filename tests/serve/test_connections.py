"""What is left half-sent, half-read or forged keeps nobody else waiting."""

import http.client
import select
import socket
from contextlib import ExitStack

import pytest

from tests.serve.running import running
from tests.serve.synthetic import Writer, make
from tests.waiting import LONG
from thalweg.compare.comparison import Comparison
from thalweg.compare.user_errors import StudyError
from thalweg.serve.connections import Limits

HALF = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
PLOTLY = b"GET /assets/x/plotly.js HTTP/1.0\r\nHost: localhost\r\n\r\n"
BODY = HALF + b"Content-Length: 100000\r\n\r\n"


def connected(served, stack, sent=b"", **options):
    found = stack.enter_context(socket.socket())
    for option, value in options.items():
        found.setsockopt(socket.SOL_SOCKET, getattr(socket, option), value)
    found.settimeout(LONG)
    found.connect(("127.0.0.1", served.port))
    found.sendall(sent)
    return found


def ended(found):
    """Waits until the other end closes the connection."""
    try:
        while found.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize("sent", [b"", b"G", HALF, BODY], ids=["nothing", "a letter", "half a head", "half a body"])
def test_three_hundred_that_are_half_sent_lock_nobody_out(sent, tmp_path):
    make(tmp_path / "s", until="tune-1", names=("sgd", "adam"))
    with running(tmp_path, limits=Limits(patience=600.0)) as served, ExitStack() as stack:
        for _ in range(300):
            connected(served, stack, sent)
        assert "/study/s" in served.page("/")
        assert served.open <= Limits().each


def test_streams_of_one_client_leave_places_to_others(tmp_path):
    with running(tmp_path, limits=Limits(connections=8, each=4, patience=600.0)) as served, ExitStack() as stack:
        streams = []
        for _ in range(9):
            streams.append(connected(served, stack, HALF.replace(b"/ ", b"/events ") + b"\r\n"))
            assert streams[-1].recv(1)  # one that still waits for its request gives way before the oldest
        assert "There is no study here yet" in served.page("/")
        assert served.open <= 4
        assert ended(streams[0])


def test_of_all_clients_the_one_with_most_connections_gives_way(tmp_path):
    with running(tmp_path, limits=Limits(connections=4, each=4, patience=600.0)) as served, ExitStack() as stack:
        stream = HALF.replace(b"/ ", b"/events ") + b"\r\n"
        other = stack.enter_context(socket.create_connection(("127.0.0.1", served.port), 60, ("127.0.0.2", 0)))
        other.sendall(stream)
        reader = other.makefile("rb")
        assert reader.readline().startswith(b"HTTP/1.1 200")
        for _ in range(9):
            connected(served, stack, HALF)
        assert "There is no study here yet" in served.page("/")
        make(tmp_path / "s", until="tune-1", names=("sgd", "adam"))
        while not reader.readline().startswith(b"data: "):
            pass
        assert served.open <= 4


@pytest.mark.parametrize("sent", [b"", HALF, BODY, HALF + b"\r\n"], ids=["nothing", "a head", "a body", "idle"])
def test_a_request_that_does_not_come_is_not_waited_for(sent, tmp_path):
    with running(tmp_path, limits=Limits(patience=0.2)) as served, ExitStack() as stack:
        assert ended(connected(served, stack, sent))
        assert served.page("/")


def test_a_request_that_comes_by_single_letters_is_not_waited_for(tmp_path):
    with running(tmp_path, limits=Limits(patience=0.2)) as served, ExitStack() as stack:
        slow = connected(served, stack, HALF + b"X: ")
        with pytest.raises(OSError, match="reset|pipe"):  # noqa: PT012
            while True:
                slow.sendall(b"a")
                if select.select([slow], [], [], 0.02)[0] and not slow.recv(1):
                    raise ConnectionResetError("reset")


def test_a_reader_that_takes_nothing_is_let_go(tmp_path):
    with running(tmp_path, limits=Limits(patience=0.2)) as served, ExitStack() as stack:
        connected(served, stack, PLOTLY, SO_RCVBUF=4096)
        reader = http.client.HTTPConnection("127.0.0.1", served.port, timeout=LONG)
        while served.open:
            reader.request("GET", "/", headers={"Connection": "close"})
            reader.getresponse().read()


def test_a_reader_that_is_slow_gets_all(tmp_path):
    with running(tmp_path, limits=Limits(patience=0.2, rate=0.0)) as served, ExitStack() as stack:
        slow = connected(served, stack, PLOTLY, SO_RCVBUF=65536)
        received = bytearray()
        while part := slow.recv(1 << 16):
            received += part
        head, _, body = bytes(received).partition(b"\r\n\r\n")
        assert f"content-length: {len(body)}".encode() in head.lower()


FORGED = {
    "hyperparameters in words": {"winner sgd": {"hyper": {"lr": "fast"}}},
    "versions that are a list": {"run": {"command": "c", "versions": ["1"], "machine": {}, "device": "cpu"}},
    "no machine": {"run": {"command": "c", "versions": {}, "started": "2026-01-31T12:30:59+00:00"}},
    "a diagnosis of another kind": {"diagnosis": {"findings": 3, "profile": [], "range_test": None}},
    "scores that are words": {"untrained_test": {"default": ["a", "b", "c"]}, "constant_test": None},
    "a score that is a word": {"constant_test": "a"},
    "times that are words": {"seconds_per_step": {"sgd": "slow", "adam": "slow"}},
    "engines of another kind": {"engine": {"name": 1}},
}


@pytest.mark.parametrize("facts", FORGED.values(), ids=FORGED)
def test_a_forged_study_is_a_line_and_the_others_are_served(facts, tmp_path):
    make(tmp_path / "good", names=("sgd", "adam"))
    writer = Writer(tmp_path / "bad", names=("sgd", "adam"))
    for name, value in facts.items():
        writer.store.add_fact(name, value)
    writer.begin()
    for rung in ("tune-1", "tune-2", "tune-3", "final"):
        writer.rung(rung)
    writer.finish()
    writer.store.close()
    with pytest.raises(StudyError, match="damaged or not a study"):
        Comparison.open(tmp_path / "bad", write=True)
    with running(tmp_path) as served:
        page = served.page("/study/bad")
        assert "<h1>" in page
        assert "damaged" in page or "cannot be read" in page
        assert "/study/good" in served.page("/")
