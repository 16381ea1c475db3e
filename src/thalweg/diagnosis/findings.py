"""What a diagnosis says: findings, each with its layer, its figure, its meaning and its fix."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

from torch import nn

from thalweg.tensors.renamed import former_fields
from thalweg.tensors.text import aligned

Fix = Callable[[nn.Module], Any]
Severity = Literal["note", "warning", "error"]
SEVERITY_ORDER: dict[str, int] = {"error": 0, "warning": 1, "note": 2}


class Choice(NamedTuple):
    """A line of code, what does the same to a model, and whether that loses nothing that was learned."""

    fix_code: str
    apply_fix: Fix
    safe: bool


@former_fields({"fix": "fix_code", "mend": "apply_fix"})
@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        kind: name of the fault, such as ``"dead units"``.
        severity: ``"error"`` where the model cannot train as it is, ``"warning"`` where it will train badly,
            ``"note"`` for what is good to know.
        layer: qualified name of the layer or parameter in the model; empty where it is the whole model.
        figure: the number that the finding rests on.
        meaning: one sentence.
        fix_code: a line of code that fixes it when it is run, in terms of ``model``, ``inputs``, ``target`` and
            ``loss``, which it changes or binds anew, of ``torch`` and ``thalweg``; empty where there is nothing to
            fix, or where only other code of the model's own does.
        apply_fix: does what ``fix_code`` says, where that loses nothing that was learned; None elsewhere.
        threshold: what the figure is warned of beyond; None where there is no more to it than that it is so.
        choices: fixes to be tried in this order, until the first that helps is ``fix_code`` and ``apply_fix``.
    """

    kind: str
    severity: Severity
    layer: str
    figure: float
    meaning: str
    fix_code: str = ""
    apply_fix: Fix | None = field(default=None, compare=False, repr=False)
    threshold: float | None = None
    choices: tuple[Choice, ...] = field(default=(), compare=False, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields as plain values, with ``safe`` for whether ``--fix`` applies it; NaN and ∞ are None."""
        plain = asdict(replace(self, apply_fix=None, choices=())) | {"safe": self.apply_fix is not None}
        del plain["apply_fix"], plain["choices"]
        plain["fix"] = plain.pop("fix_code")  # the name in studies and pages
        return plain | {"figure": self.figure if math.isfinite(self.figure) else None}


@dataclass(frozen=True)
class Profile:
    """What one layer shows, for plots over depth.

    Attributes:
        layer: qualified name.
        signal: deviation of its output between examples.
        gradient: norm of the loss's gradient by its output; None where none comes.
        growth: of a small difference between inputs until there, 1 at the first layer; None where it is rounding.
        idle: share of its units that are dead or saturated; None where nothing that can be follows.
    """

    layer: str
    signal: float
    gradient: float | None
    growth: float | None
    idle: float | None


@dataclass(frozen=True)
class RangeTest:
    """What a learning-rate range test saw.

    Attributes:
        lrs: the learning rates in their order.
        losses: of each step's batch before the step.
        changes: of the next batch's loss by the step.
        best: the learning rate to start from; None if it cannot be determined.
        highest: from which on the loss rises, by a tenth of the first; None where it does not.
        why: what the verdict rests on, in words.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    changes: tuple[float, ...]
    best: float | None
    highest: float | None
    why: str


@dataclass(frozen=True)
class Diagnosis:
    """All findings, the most severe first; those of one severity in the order of the checks.

    Attributes:
        findings: what there is to say of the model as it is now.
        fixed: findings that were there before, and were fixed.
        profile: one :class:`Profile` a layer, in the order in which they run.
        range_test: the learning-rate range test, None where it was left out.

    >>> print(Diagnosis((Finding("dead units", "error", "0", 1.0, "every unit is 0", "initialize(model)"),)))
    severity  finding     layer  figure  threshold  meaning
    error     dead units  0      1                  every unit is 0
    <BLANKLINE>
    dead units (0): initialize(model)
    """

    findings: tuple[Finding, ...]
    fixed: tuple[Finding, ...] = ()
    profile: tuple[Profile, ...] = ()
    range_test: RangeTest | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "findings", tuple(sorted(self.findings, key=lambda f: SEVERITY_ORDER[f.severity])))

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    @property
    def worst(self) -> Severity | None:
        """The highest severity; None where no problem was found."""
        return self.findings[0].severity if self.findings else None

    def as_dict(self) -> dict[str, Any]:
        """Returns all of it as plain values, fit for strict JSON."""
        test = None
        if self.range_test is not None:
            test = {k: _plain(v) for k, v in asdict(self.range_test).items()}
        return {
            "findings": [f.as_dict() for f in self.findings],
            "fixed": [f.as_dict() for f in self.fixed],
            "profile": [{k: _plain(v) for k, v in asdict(p).items()} for p in self.profile],
            "range_test": test,
        }

    def __str__(self) -> str:
        done = [f"fixed: {_title(f)}: {f.fix_code}" for f in self.fixed]
        if not self.findings:
            return "\n".join([*done, "no problem was found"])
        head = ("severity", "finding", "layer", "figure", "threshold", "meaning")
        cells = [head, *((f.severity, f.kind, f.layer, f"{f.figure:.4g}", _bound(f), f.meaning) for f in self.findings)]
        fixes = [f"{_title(f)}: {f.fix_code}" for f in self.findings if f.fix_code]
        return "\n".join([*done, *([""] if done else []), *aligned(cells), *(["", *fixes] if fixes else [])])


def severity_counts(found: Sequence[Finding]) -> tuple[int, ...]:
    """Returns how many findings there are of each severity, the most severe first."""
    return tuple(sum(f.severity == severity for f in found) for severity in SEVERITY_ORDER)


def _bound(finding: Finding) -> str:
    return "" if finding.threshold is None else f"{finding.threshold:.4g}"


def _title(finding: Finding) -> str:
    return f"{finding.kind} ({finding.layer})" if finding.layer else finding.kind


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
