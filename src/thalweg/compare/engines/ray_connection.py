"""The way to Ray: on this machine, or at an address."""

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import ray
from ray.exceptions import RayError

from thalweg.compare.reach import reach


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Runs its body, and takes back from Ray who is told of SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@_sigterm_kept()
def connect(address: str | None) -> None:
    """Connects to a cluster, or starts Ray on this machine where there is no address.

    Raises:
        ValueError: no cluster answers, or not without a token.
    """
    quietly = partial(ray.init, log_to_driver=False, logging_level=logging.CRITICAL)
    if address is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        quietly("local", num_cpus=cores, include_dashboard=False)
        return
    mend = "give the address that ray start --head printed, or leave out --ray-address"
    try:
        reach(address)
        mend = (
            "if it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to what ray get-auth-token says there"
        )
        with warnings.catch_warnings(action="ignore"):
            quietly(address)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        why = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__
        raise ValueError(f"no Ray cluster can be used at {address} ({why}): {mend}") from error
