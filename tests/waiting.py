"""Waiting by what is seen, never by how long it takes: a test on a busy machine takes longer, and says the same."""

import signal
import time

LONG = 900  # seconds after which a test has gone wrong, however busy the machine is


def until(happens, pause=time.sleep):
    """Calls a function until what it returns is true, and returns that."""
    end = time.monotonic() + LONG
    while not (found := happens()):
        assert time.monotonic() < end, f"waited in vain for {happens}"
        pause(0.02)
    return found


def hang():
    """Hangs until the limit of its trial, which is let come at once: no other trial needs a limit that it may pass."""
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    until(lambda: False)
