"""The way to Ray: on this machine, or at an address."""

import logging
import os
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

TRIES = 3  # at starting Ray here


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Runs its body, and restores the handler of SIGTERM that Ray replaces."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _start(begin: Callable[[], object]) -> None:
    """Starts Ray here; again where it gives up waiting for its own processes, as it does on a busy machine."""
    for left in reversed(range(TRIES)):
        try:
            begin()
            return
        except Exception as error:  # Ray's are of any kind
            ray.shutdown()
            if not left:
                raise ValueError(f"Ray does not start on this machine ({_first(error)}): use --engine auto") from error


def _first(error: Exception) -> str:
    """Returns the first sentence of what an error says."""
    return str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__


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
        _start(partial(quietly, "local", num_cpus=cores, include_dashboard=False))
        return
    remedy = "pass the address that ray start --head printed, or omit --ray-address"
    try:
        check_reachable(address)
        remedy = (
            "if it requires a token, set RAY_AUTH_MODE=token, and set RAY_AUTH_TOKEN to the output of ray "
            "get-auth-token there"
        )
        with warnings.catch_warnings(action="ignore"):
            quietly(address)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise ValueError(f"there is no usable Ray cluster at {address} ({_first(error)}): {remedy}") from error
