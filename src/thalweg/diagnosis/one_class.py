"""A batch whose examples are all of one class, as data that are sorted by class give it without a shuffle."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from thalweg.diagnosis.batches import Batch
from thalweg.diagnosis.findings import Finding, Severity
from thalweg.diagnosis.loss_form import form_of, trial
from thalweg.diagnosis.observe import FEWEST, Seen

SHUFFLE = "DataLoader(dataset, batch_size, shuffle=True), or index = torch.randperm(len(inputs))"


def one_class(seen: Seen, others: Sequence[Batch] = ()) -> list[Finding]:
    """Finds a batch of 8 or more examples of one class; notes it where the class may only be frequent.

    A warning is given of classes, one an example, and of 0 and 1 where further batches have the other class alone. A
    note is given of 0 and 1 otherwise, since positives may be rare, and losses of adversarial networks take real
    examples alone; of a class a position; and where further batches have several classes.

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> batch = (torch.randn(16, 4), torch.full((16,), 2))
    >>> found = one_class(observe(nn.Linear(4, 3), batch, nn.functional.cross_entropy))
    >>> [(f.kind, f.severity, f.figure, f.threshold) for f in found]
    [('one class', 'warning', 1.0, 2.0)]

    Source: Deep Learning, §8.1.3 (examples are drawn independently, as by a shuffle).
    """
    target = seen.target
    label = _only(target)
    if label is None or seen.examples < FEWEST or not _is_class(seen, label):
        return []
    further = [_only(other) for _, other in others]
    different = [f"{other:g}" for other in further if other is not None and other != label]
    severity: Severity = "warning" if not target.is_floating_point() and target.dim() == 1 else "note"
    severity = "note" if None in further else "warning" if different else severity
    also = f", and further batches are of class {', '.join(dict.fromkeys(different))} alone" if different else ""
    meaning = (
        f"all {seen.examples} examples are of class {label:g}{also}: a constant output makes the loss 0, and the next "
        f"class undoes it. Where the data are sorted by class, shuffle them, as with {SHUFFLE}"
    )
    return [Finding("one class", severity, "", 1.0, meaning, threshold=2.0)]


def _only(target: Any) -> float | None:
    """Returns the one value that a tensor of classes has, but for negative ones, which losses leave out."""
    if not isinstance(target, Tensor) or not target.dim() or target.is_complex():
        return None
    values = target.detach().flatten()
    values = values if target.is_floating_point() else values[values >= 0]
    return float(values[0]) if len(values) and bool((values == values[0]).all()) else None


def _is_class(seen: Seen, label: float) -> bool:
    """Returns whether the loss compares outputs with a class: one of several scores, or 0 and 1."""
    test = trial(seen)
    form = None if test is None else form_of(test)
    if form is None or form.takes == "values":
        return False
    return form.dim is not None if not seen.target.is_floating_point() else form.dim is None and label in (0, 1)
