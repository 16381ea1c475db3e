"""The learning rate of plain gradient descent to start from, by the range test."""

from collections.abc import Sequence

from thalweg.diagnosis.batches import Batch
from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.learning_rate_range import RangeTest, learning_rate_range
from thalweg.diagnosis.observe import Loss, Seen, brief


def learning_rate(
    seen: Seen, more: Sequence[Batch], loss: Loss, steps: int = 100
) -> tuple[list[Finding], RangeTest | None]:
    """Notes the learning rate that the range test suggests, or that none can be determined; and returns the test.

    >>> from torch import nn, ones, zeros
    >>> from thalweg.diagnosis.observe import observe
    >>> flat = lambda y, t: (0 * y).sum()
    >>> found, _ = learning_rate(observe(nn.Linear(1, 1), (ones(8, 1), zeros(8, 1)), flat), [], flat)
    >>> found[0].meaning.startswith("not determined")
    True
    """
    kind = "learning rate"
    try:
        test = learning_rate_range(seen.model, [seen.batch, *more], loss, steps=steps)
    except (RuntimeError, ValueError) as error:
        return [Finding(kind, "note", "", 0.0, f"not determined: {brief(error)}")], None
    on = "" if more else "; this was measured on one batch, which is easier than many"
    if test.best is None:
        return [Finding(kind, "note", "", 0.0, test.why + on)], test
    fix = f"optimizer = torch.optim.SGD(model.parameters(), lr={test.best:.1g})"
    return [Finding(kind, "note", "", test.best, test.why + on, fix)], test
