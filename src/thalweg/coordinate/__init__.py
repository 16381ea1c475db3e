"""Coordinate descent (§8.7.2): sparse codes and dictionaries, and any function a block at a time."""

from thalweg.coordinate.duality import duality_gap
from thalweg.coordinate.lasso import Codes, lasso

__all__ = ["Codes", "duality_gap", "lasso"]
