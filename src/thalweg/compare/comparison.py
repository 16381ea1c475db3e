"""A finished comparison: its results, shown in a terminal, a notebook and a report."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from thalweg.compare.results import collect, write_json
from thalweg.compare.store import Store, StudyError, damaged


@dataclass(frozen=True)
class Comparison:
    """What :func:`thalweg.compare` returns; shows itself in a notebook.

    Attributes: ``results`` is what ``results.json`` holds, ``folder`` where the study lies.
    """

    results: Mapping[str, Any]
    folder: Path

    @classmethod
    def from_store(cls, store: Store, folder: Path, write: bool = False) -> "Comparison":
        """Computes the results from the store; writes ``results.json`` and ``report.html`` if asked."""
        comparison = cls(collect(store), folder)
        if write:
            comparison.write()
        return comparison

    @classmethod
    def open(cls, folder: str | Path, write: bool = False) -> "Comparison":
        """Opens a finished study, and writes ``results.json`` and ``report.html`` again if asked.

        Raises:
            StudyError: there is none, it is not finished, or it is damaged.
        """
        store = Store.open(Path(folder))
        try:
            return cls.from_store(store, Path(folder), write)
        except (StudyError, OSError):
            raise
        except Exception as error:  # its bytes are as they were written, but not by a study
            raise damaged(store.path, error) from error
        finally:
            store.close()

    def write(self) -> None:
        """Writes ``results.json`` and ``report.html`` into the folder."""
        from thalweg.compare.report import write_report

        write_json(self.results, self.folder / "results.json")
        write_report(dict(self.results), self.report)

    @property
    def report(self) -> Path:
        """Path of the report."""
        return self.folder / "report.html"

    @property
    def verdict(self) -> str:
        """The verdict in one sentence."""
        return str(self.results["verdict"]["sentence"])

    def rows(self) -> list[dict[str, str]]:
        """Returns the ranking as rows of text, best first."""
        metric = self.results["task"]["metric"]
        return [
            {
                "strategy": s["name"],
                f"test\n{metric}": number(s["test"]["mean"]),
                "95 %\ninterval": f"{number(s['test']['low'])} to {number(s['test']['high'])}",
                "target\nin steps": number(s["to_target"]["steps"]),
                "target\nin s": number(s["to_target"]["seconds"], 2),
                "diverged": f"{s['diverged']} of {s['trials']}"
                + (f", {s['final_diverged']} final" if s["final_diverged"] else ""),
                "tuned to": ", ".join(f"{k} {v:.3g}" for k, v in s["hyperparameters"].items() if k in s["space"]),
            }
            for s in self.results["strategies"]
        ]

    def __repr__(self) -> str:
        return f"<Comparison: {self.verdict} Report: {self.report}>"

    def _repr_html_(self) -> str:
        rows = self.rows()
        head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
        body = "".join("<tr>" + "".join(f"<td>{escape(v)}</td>" for v in row.values()) + "</tr>" for row in rows)
        return (
            f"<p><b>{escape(self.verdict)}</b></p><table><tr>{head}</tr>{body}</table><p>{escape(str(self.report))}</p>"
        )


def number(value: float | None, digits: int = 4) -> str:
    """Returns the value with so many significant digits, or a dash.

    >>> number(0.97181), number(None), number(1250.0)
    ('0.9718', '–', '1250')
    """
    return "–" if value is None else f"{value:.{digits}g}"
