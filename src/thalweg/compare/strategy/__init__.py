"""What is compared: an optimizer, how its parameters start, and how the model is built."""

from thalweg.compare.strategy.strategy import DEFAULT_STRATEGIES, Strategy
from thalweg.compare.strategy.words import axis_of, crossed

__all__ = ["DEFAULT_STRATEGIES", "Strategy", "axis_of", "crossed"]
