"""The way to Ray: on this machine, or at an address."""

import logging
import os
import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import ray
from ray.exceptions import RayError

from thalweg.compare.arguments import check_reachable
from thalweg.compare.execution.ray.private import omit_findings

TRIES = 3  # at starting Ray


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Runs its body, and restores the handler of SIGTERM that Ray replaces."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _start(begin: Callable[[], object], errors: type[Exception]) -> None:
    """Starts Ray; again where it gives up waiting for its own processes, as it does on a busy machine."""
    for left in reversed(range(TRIES)):
        try:
            begin()
            return
        except errors:
            ray.shutdown()
            if not left:
                raise


def _sentence(error: Exception) -> str:
    """Returns the sentence of an error that names the cause: the last one of a traceback, else the first."""
    text = str(error).strip()
    line = text.splitlines()[-1] if "Traceback" in text else text.partition("\n")[0]
    return re.split(r"[.!] ", line)[0].rstrip(".!") or type(error).__name__


@_sigterm_kept()
def connect(address: str | None) -> None:
    """Connects to a cluster, or starts Ray on this machine where there is no address.

    Raises:
        ValueError: Ray does not start here; no cluster answers, or not without a token.
    """
    omit_findings()
    quietly = partial(ray.init, log_to_driver=False, logging_level=logging.CRITICAL)
    if address is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        try:
            _start(partial(quietly, "local", num_cpus=cores, include_dashboard=False), Exception)  # of any kind
        except Exception as error:
            raise ValueError(f"Ray does not start on this machine ({_sentence(error)}): use --engine auto") from error
        return
    remedy = "pass the address that ray start --head printed, or omit --ray-address"
    try:
        check_reachable(address)
        remedy = (
            "if it requires a token, set RAY_AUTH_MODE=token, and set RAY_AUTH_TOKEN to the output of ray "
            "get-auth-token there"
        )
        with warnings.catch_warnings(action="ignore"):
            _start(partial(quietly, address), ConnectionAbortedError)  # the head waits 30 s for the client's server
    except (OSError, RuntimeError, ValueError, RayError) as error:
        if isinstance(error, ConnectionAbortedError):
            remedy = "see ray_client_server.err among the logs of its head"
        raise ValueError(f"there is no usable Ray cluster at {address} ({_sentence(error)}): {remedy}") from error
