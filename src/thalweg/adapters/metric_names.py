"""Names of metrics as other libraries' users write them: ``val_acc`` and ``test_acc`` are one metric."""

import re

from thalweg.compare.task.task import LARGER, SMALLER

PART = r"(?:val|valid|validation|test|eval|dev)"
MORE_LARGER = ("match",)
MORE_SMALLER = ("errors", "losses")


def bare(name: str) -> str:
    """Returns the name of a metric without that of the part of the data, before it or behind it.

    >>> bare("val_acc"), bare("test/loss"), bare("eval_f1"), bare("loss_valid"), bare("value")
    ('acc', 'loss', 'f1', 'loss', 'value')
    """
    short = re.sub(rf"^{PART}[_/.: -]+|[_/.: -]+{PART}$", "", name)
    return short or name


def is_higher_better(name: str) -> bool | None:
    """Returns whether a larger value of a metric is better, None where no word of its name tells.

    >>> is_higher_better("top1_acc"), is_higher_better("ce_loss"), is_higher_better("zeal")
    (True, False, None)
    """
    words = {*re.split(r"[^a-z0-9]+", name.lower()), name.lower()}
    if words & {*SMALLER, *MORE_SMALLER}:
        return False
    return True if words & {*LARGER, *MORE_LARGER} else None
