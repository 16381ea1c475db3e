"""A finished gate: its answer, shown and written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

from thalweg.compare.gate import sentences
from thalweg.compare.gate.judgement import Answer, Judgement
from thalweg.compare.gate.runs import Run
from thalweg.compare.statistics import Interval
from thalweg.compare.study.results import plain

Expectation = Literal["better", "not-worse", "equal"]
EXPECTATIONS: tuple[Expectation, ...] = ("better", "not-worse", "equal")
Ended = Literal["decided", "cap", "time", "records"]
CODES: Mapping[Answer, int] = {"better": 0, "equal": 3, "worse": 4, "not decided": 5}


@dataclass(frozen=True)
class Gate:
    """The result of :func:`thalweg.gate`.

    Attributes:
        judgement: what the runs say.
        metric: the name of the metric.
        direction: ``"max"`` or ``"min"`` of it.
        within: the margin inside which the sides count as equal; None without one.
        baseline, candidate: the runs, those at one position being a pair.
        sides: what each side is; empty for runs that were made elsewhere.
        cap: pairs at most; None for runs that were made elsewhere.
        ended_by: ``"decided"``, ``"cap"``, ``"time"`` or ``"records"``.
        notes: what else is to be known.
        folder: in which the runs are stored; None for runs that were made elsewhere.
    """

    judgement: Judgement
    metric: str
    direction: str
    within: float | None
    baseline: Sequence[Run]
    candidate: Sequence[Run]
    sides: Mapping[str, Any]
    cap: int | None
    ended_by: Ended
    notes: Sequence[str] = ()
    folder: Path | None = None

    @property
    def answer(self) -> Answer:
        """``"better"``, ``"worse"``, ``"equal"`` or ``"not decided"``, of the candidate."""
        return self.judgement.answer

    @property
    def code(self) -> int:
        """The exit code of ``thalweg gate`` without ``--expect``: 0 better, 3 equal, 4 worse, 5 not decided."""
        return CODES[self.answer]

    @property
    def difference(self) -> Interval:
        """Candidate − baseline in the metric's own units, and bounds that hold at every look."""
        mean, low, high = self.judgement.gain
        return Interval(mean, low, high) if self.direction == "max" else Interval(-mean, -high, -low)

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        return sentences.sentence(self.judgement, self.metric, self.direction, self.within)

    @property
    def details(self) -> list[str]:
        """The sentences after it."""
        return sentences.details(self.judgement, self.within, self.ended_by, self.cap)

    def meets(self, expectation: Expectation) -> bool:
        """Says whether the runs bear out an expectation; see :func:`meets`."""
        return meets(self.judgement, expectation, self.within)

    def as_dict(self) -> dict[str, Any]:
        """Returns the contents of ``gate.json``."""
        found = self.judgement
        one, two = found.failed
        return plain(
            {
                "answer": self.answer,
                "exit_code": self.code,
                "sentence": self.sentence,
                "details": self.details,
                "notes": self.notes,
                "metric": self.metric,
                "direction": self.direction,
                "within": self.within,
                "difference": self.difference._asdict(),
                "not_worse": self.meets("not-worse"),
                "identical": found.identical,
                "pairs": found.pairs,
                "trained": found.trained,
                "cap": self.cap,
                "ended_by": self.ended_by,
                "failed": {"baseline": one, "candidate": two, "untaught": found.untaught, "evidence": found.evidence},
                "sides": self.sides,
                "runs": {
                    "baseline": [run.as_dict(self.metric) for run in self.baseline],
                    "candidate": [run.as_dict(self.metric) for run in self.candidate],
                },
            }
        )

    def __repr__(self) -> str:
        return f"<Gate: {self.sentence}>"

    def _repr_html_(self) -> str:
        said = "".join(f"<li>{escape(line)}</li>" for line in [*self.details, *self.notes])
        return f"<p><b>{escape(self.sentence)}</b></p><ul>{said}</ul>"


def meets(found: Judgement, expectation: Expectation, within: float | None) -> bool:
    """Says whether runs bear out an expectation.

    ``not-worse``: the candidate is better or equal, or it is worse by less than the margin and fails no more often.
    """
    if expectation == "not-worse":
        lost, missed = found.failed
        inside = within is not None and found.gain.low > -within and missed <= lost
        return found.answer in ("better", "equal") or (inside and found.answer != "worse")
    return found.answer == expectation
