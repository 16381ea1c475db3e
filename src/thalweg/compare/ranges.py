"""The numbers that a user may give, checked in one place before anything is made of them."""

import math

TRIALS, SEEDS, STEPS = 100_000, 100_000, 10_000_000  # at most: beyond, a plan alone takes the memory of a machine
SECONDS = 1e9  # at most that a timer takes
SEED = (-(2**63), 2**63 - 1)  # of torch's generators


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
