"""A finished comparison: its results, shown in a terminal, a notebook and a report."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from thalweg.compare.ranges import shown
from thalweg.compare.report import render
from thalweg.compare.storage.create import FILE
from thalweg.compare.storage.errors import damaged
from thalweg.compare.storage.store import Store
from thalweg.compare.study.results import collect, in_json
from thalweg.tensors.files import write_text


@dataclass(frozen=True)
class Comparison:
    """The result of :func:`thalweg.compare`, which a notebook displays as a table.

    Attributes:
        results: the contents of ``results.json``.
        folder: the folder of the study.
    """

    results: Mapping[str, Any]
    folder: Path

    @classmethod
    def from_store(cls, store: Store, folder: Path, within: float | None = None) -> "Comparison":
        """Computes the results from the store, with another margin of equivalence where one is given.

        Raises:
            StudyError: the study is not finished, or it is damaged.
        """
        with store.reading():
            comparison = cls(collect(store, within), folder)
            comparison.rows()
        return comparison

    @classmethod
    def open(cls, folder: str | Path, write: bool = False, within: float | None = None) -> "Comparison":
        """Opens a finished study, and with ``write`` writes ``results.json`` and ``report.html`` again.

        Arguments:
            folder: of the study.
            write: whether to write the files.
            within: the margin inside which strategies count as equivalent; None for the study's own.

        Raises:
            StudyError: there is no study, it is not finished, or it is damaged.
            FileError: see :meth:`write`.
        """
        store = Store.open(Path(folder))
        try:
            comparison = cls.from_store(store, Path(folder), within)
        finally:
            store.close()
        if write:
            comparison.write()
        return comparison

    def write(self, folder: Path | None = None) -> None:
        """Writes ``results.json`` and ``report.html`` into the folder, by default the study's.

        Raises:
            StudyError: the study is damaged, so that it cannot be shown.
            FileError: the files cannot be written and do not exist yet.
        """
        folder = folder or self.folder
        try:
            texts = {"results.json": in_json(self.results), "report.html": render(self.results)}
        except Exception as error:  # its bytes are as they were written, but not by a study
            raise damaged(self.folder / FILE, error) from error
        for name, text in texts.items():
            write_text(text, folder / name)

    @property
    def report(self) -> Path:
        """Path of the report."""
        return self.folder / "report.html"

    @property
    def verdict(self) -> str:
        """What to use, in one sentence."""
        return str(self.results["verdict"]["sentence"])

    @property
    def details(self) -> list[str]:
        """The sentences after the verdict: which strategies could be the best, which are behind, how surely."""
        return list(self.results["verdict"]["details"])

    def rows(self) -> list[dict[str, str]]:
        """Returns the ranking as rows of text, best first."""
        metric = self.results["task"]["metric"]
        return [
            {
                "strategy": s["name"],
                f"test\n{metric}": number(s["test"]["typical"]),
                "95 %\ninterval": f"{number(s['test']['low'])} to {number(s['test']['high'])}",
                "target\nin steps": number(s["to_target"]["steps"]),
                "target\nin s": number(s["to_target"]["seconds"], 2),
                "failed\nruns": f"{s['failed']['count']} of {s['failed']['of']}",
                "diverged\ntrials": f"{s['diverged']} of {s['trials']}",
                "tuned to": _tuned(s),
            }
            for s in self.results["strategies"]
        ]

    def __repr__(self) -> str:
        return f"<Comparison: {self.verdict} Report: {self.report}>"

    def _repr_html_(self) -> str:
        rows = self.rows()
        head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
        body = "".join("<tr>" + "".join(f"<td>{escape(v)}</td>" for v in row.values()) + "</tr>" for row in rows)
        said = f"<p><b>{escape(self.verdict)}</b> {escape(' '.join(self.details))}</p>"
        return f"{said}<table><tr>{head}</tr>{body}</table><p>{escape(str(self.report))}</p>"


def _tuned(s: Mapping[str, Any]) -> str:
    if s.get("could_not_run") and s["valid"] is None:
        return "could not run"
    return ", ".join(f"{k} {shown(v)}" for k, v in s["hyperparameters"].items() if k in s["space"])


def number(value: float | None, digits: int = 4) -> str:
    """Returns the value with so many significant digits, or a dash.

    >>> number(0.97181), number(None), number(1250.0)
    ('0.9718', '–', '1250')
    """
    return "–" if value is None else f"{value:.{digits}g}"
