"""The protocol carried out, and what its records come to."""

from typing import Literal, get_args

Judge = Literal["metric", "time-to-target", "seconds-to-target"]  # by what strategies are judged
JUDGES: tuple[Judge, ...] = get_args(Judge)
