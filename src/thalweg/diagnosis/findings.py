"""What a diagnosis says: findings, each with its layer, its figure, its meaning and its mend."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Severity = Literal["note", "warning", "error"]
GRAVITY: dict[str, int] = {"error": 0, "warning": 1, "note": 2}


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
        fix: a line of code that mends it, in terms of ``model``, ``inputs``, ``target`` and ``loss``; empty where there
            is nothing to mend.
    """

    kind: str
    severity: Severity
    layer: str
    figure: float
    meaning: str
    fix: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings, gravest first; those of one severity in the order of the checks.

    >>> print(Diagnosis((Finding("dead units", "error", "0", 1.0, "every unit is 0", "initialize(model)"),)))
    severity  finding     layer  figure  meaning
    error     dead units  0      1       every unit is 0
    <BLANKLINE>
    dead units (0): initialize(model)
    """

    findings: tuple[Finding, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "findings", tuple(sorted(self.findings, key=lambda f: GRAVITY[f.severity])))

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    @property
    def worst(self) -> Severity | None:
        """The gravest severity; None where nothing was found."""
        return self.findings[0].severity if self.findings else None

    def __str__(self) -> str:
        if not self.findings:
            return "nothing was found"
        head = ("severity", "finding", "layer", "figure", "meaning")
        cells = [head, *((f.severity, f.kind, f.layer, f"{f.figure:.4g}", f.meaning) for f in self.findings)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
        ]
        fixes = [f"{f.kind}{f' ({f.layer})' if f.layer else ''}: {f.fix}" for f in self.findings if f.fix]
        return "\n".join([*lines, *(["", *fixes] if fixes else [])])
