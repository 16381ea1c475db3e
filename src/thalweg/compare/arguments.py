"""What a user may give, checked in one place before anything is made of it: numbers, a device, an address."""

import math
import socket
from urllib.parse import urlsplit

import torch

from thalweg.compare.user_errors import brief

TRIALS, SEEDS, STEPS = 100_000, 100_000, 10_000_000  # at most: beyond, a plan alone takes the memory of a machine
SECONDS = 1e9  # at most that a timer takes
SEED = (-(2**63), 2**63 - 1)  # of torch's generators
PORTS = {"http": 80, "https": 443}


def check_whole(
    name: str, value: object, least: int = 1, most: int = STEPS, kind: type[ValueError] = ValueError
) -> None:
    """Raises an error of the kind where a value is no whole number of a range.

    >>> check_whole("trials", 10**9, most=TRIALS)
    Traceback (most recent call last):
    ValueError: trials must be at most 100,000, not 1000000000
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise kind(f"{name} must be a whole number, not {value!r}")
    if not least <= value <= most:
        bound = f"at least {least:,}" if value < least else f"at most {most:,}"
        raise kind(f"{name} must be {bound}, not {str(value)[:40] if abs(value) < 10**40 else 'that many'}")


def check_above(name: str, value: float, most: float = math.inf) -> None:
    """Raises ValueError where a value is not a number above 0, or too large.

    >>> check_above("trial_seconds", math.nan)
    Traceback (most recent call last):
    ValueError: trial_seconds must be a number above 0, not nan
    """
    if not 0 < value <= most or math.isinf(value):
        bound = "" if math.isinf(most) else f" and at most {most:g}"
        raise ValueError(f"{name} must be a number above 0{bound}, not {value}")


def usable_device(asked: str | None) -> torch.device:
    """Returns the device of that name, by default CUDA where there is one.

    Raises:
        ValueError: it cannot be used here.

    >>> usable_device("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(asked or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device).item()  # meta tensors can be made, but hold nothing
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {asked!r} cannot be used here ({brief(error)}): use --device cpu") from error
    return device


def check_reachable(address: str) -> None:
    """Raises OSError where nobody listens at the host and port of an address, if it has such.

    >>> check_reachable("auto"), check_reachable("sqlite:///runs.db")
    (None, None)
    """
    found = urlsplit(address if "://" in address else f"//{address}")
    port = found.port or PORTS.get(found.scheme)
    if found.hostname and port:
        socket.create_connection((found.hostname, port), timeout=20).close()
