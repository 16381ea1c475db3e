"""Engines: the ways to run the same trials; all give the same records."""

from typing import Literal, get_args

EngineName = Literal["auto", "lanes", "serial", "ray"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
