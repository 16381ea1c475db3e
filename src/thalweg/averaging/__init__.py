"""Averages of the parameters along the way (§8.7.3): :class:`Average` keeps one by :class:`Polyak` or :class:`EMA`."""

from thalweg.averaging.average import Average
from thalweg.averaging.averaging import EMA, Averaging, Polyak, averaged

__all__ = ["EMA", "Average", "Averaging", "Polyak", "averaged"]
