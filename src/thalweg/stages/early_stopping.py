"""Early stopping: a stage ends when what is watched no longer improves, and keeps the best parameters."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EarlyStopping:
    """Ends a stage after ``patience`` rows in succession without a better value than the best; that one's are kept.

    Arguments:
        patience: rows of the history, at least 1.
        metric: a column of the history: a name that ``validate`` gives, or ``"train_loss"``.
        higher_is_better: its direction.
        least: by how much a value must be better.

    Raises:
        ValueError: patience below 1, a negative ``least``.

    >>> EarlyStopping(3).improves(0.4, best=0.5)
    True

    Source: Deep Learning, §7.8, algorithm 7.1.
    """

    patience: int
    metric: str = "valid_loss"
    higher_is_better: bool = False
    least: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.patience, int) or not self.patience >= 1:
            raise ValueError(f"patience is {self.patience!r}: give a whole number of rows, at least 1")
        if not isinstance(self.least, (int, float)) or not self.least >= 0:
            raise ValueError(f"least is {self.least!r}: give a number of 0 or more")

    def improves(self, value: float, best: float | None) -> bool:
        """Returns whether the value is better than the best so far; anything is better than None, NaN than nothing."""
        if value != value:
            return False
        if best is None:
            return True
        return (value - best if self.higher_is_better else best - value) > self.least
