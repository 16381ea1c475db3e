"""What a user may give, checked in one place before anything is made of it: numbers, a device, an address."""

import math
import re
import socket
from urllib.parse import urlsplit

import torch

from thalweg.compare.user_errors import brief

TRIALS, SEEDS, STEPS = 100_000, 100_000, 10_000_000  # at most: beyond, a plan alone takes the memory of a machine
SECONDS = 1e9  # at most that a timer takes
SEED = (-(2**63), 2**63 - 1)  # of torch's generators
PORTS = {"http": 80, "https": 443}
UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}  # of time


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


def duration(name: str, given: str | float) -> float:
    """Returns the seconds of a duration, such as ``"20min"``, ``"1.5h"``, ``"90s"``, ``"2d"`` or a number of them.

    >>> duration("at_most", "20 min"), duration("at_most", 90)
    (1200.0, 90.0)

    Raises:
        ValueError: it is none, not above 0, or too long.
    """
    parts = re.fullmatch(r"\s*([\d.]+)\s*([a-z]*)\s*", str(given), re.ASCII)
    unit = (parts[2] or "s") if parts else ""
    try:
        seconds = float(parts[1]) * UNITS[unit] if parts else math.nan
    except (ValueError, KeyError):
        seconds = math.nan
    if not 0 < seconds <= SECONDS:
        raise ValueError(f"{name} is {str(given)[:40]!r}, not a duration: write, for example, 90s, 20min or 1.5h")
    return seconds


def size(given: str) -> int:
    """Returns the number of bytes written as 500M, 4G or a plain number.

    >>> size("500M"), size("4 GiB")
    (524288000, 4294967296)

    Raises:
        ValueError: it is no amount of memory.
    """
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    body = given.strip().upper().removesuffix("B").removesuffix("I")
    factor = units.get(body[-1:], 1)
    try:
        value = int(float(body[:-1] if factor > 1 else body) * factor)
    except (ValueError, OverflowError):
        value = 0
    if value <= 0:
        raise ValueError(f"--memory {given!r} is not an amount of memory: write, for example, 500M or 4G")
    return value


def in_words(seconds: float) -> str:
    """Returns a duration in the largest unit of which it holds one.

    >>> in_words(1200.0), in_words(5400.0), in_words(0.25)
    ('20 min', '1.5 h', '0.25 s')
    """
    unit = next((u for u, size in reversed(UNITS.items()) if seconds >= size), "s")
    return f"{seconds / UNITS[unit]:.2g} {unit}"


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
