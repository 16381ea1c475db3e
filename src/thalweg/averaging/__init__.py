"""Averages of the parameters along the way (§8.7.3): :class:`Average` keeps one by :class:`Polyak` or :class:`EMA`."""

from thalweg.averaging.average import Average
from thalweg.averaging.averaging import Averaging, averaged
from thalweg.averaging.ema import EMA
from thalweg.averaging.polyak import Polyak

__all__ = ["EMA", "Average", "Averaging", "Polyak", "averaged"]
