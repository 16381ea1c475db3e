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
from thalweg.compare.study import Judge
from thalweg.compare.study.criterion import check_judge
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
    def from_store(
        cls,
        store: Store,
        folder: Path,
        within: float | None = None,
        judge: Judge | None = None,
        target: float | None = None,
    ) -> "Comparison":
        """Computes the results from the store, judged otherwise where that is asked for, see :meth:`open`.

        Raises:
            StudyError: the study is not finished, or it is damaged.
        """
        with store.reading():
            comparison = cls(collect(store, within, judge, target), folder)
            comparison.rows()
        return comparison

    @classmethod
    def open(
        cls,
        folder: str | Path,
        write: bool = False,
        within: float | None = None,
        judge: Judge | None = None,
        target: float | None = None,
    ) -> "Comparison":
        """Opens a finished study, and with ``write`` writes ``results.json`` and ``report.html`` again.

        Arguments:
            folder: of the study.
            write: whether to write the files.
            within: the margin inside which strategies count as equivalent; None for the study's own.
            judge: by what strategies are judged, as in :func:`thalweg.compare`; None for the study's own. What tuning
                chose stays as it is, which the notes say.
            target: of the validation metric; None for the study's own, or the one that its trials make.

        Raises:
            ValueError: ``judge`` or ``target`` is none.
            StudyError: there is no study, it is not finished, or it is damaged.
            FileError: see :meth:`write`.
        """
        check_judge(judge or "metric", target)
        store = Store.open(Path(folder))
        try:
            comparison = cls.from_store(store, Path(folder), within, judge, target)
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

    @property
    def words(self) -> list[str]:
        """By what strategies are judged, where that is not the metric, and the details."""
        return list(filter(None, [self.results["judge"]["text"], *self.details]))

    def rows(self) -> list[dict[str, str]]:
        """Returns the ranking as rows of text, best first."""
        return [
            {
                "strategy": s["name"],
                **self._judged(s),
                "diverged\ntrials": f"{s['diverged']} of {s['trials']}",
                "tuned to": _tuned(s),
            }
            for s in self.results["strategies"]
        ]

    def _judged(self, s: Mapping[str, Any]) -> dict[str, str]:
        """Returns the columns of a strategy that show its final runs, first of all what is judged."""
        test, time = s["test"], s["to_target"]
        score = {f"test\n{self.results['task']['metric']}": number(test["typical"])}
        steps, seconds = {"target\nin steps": number(time["steps"])}, {"target\nin s": number(time["seconds"], 2)}
        if (judge := self.results["judge"]["by"]) == "metric":
            interval = f"{number(test['low'])} to {number(test['high'])}"
            failed = f"{s['failed']['count']} of {s['failed']['of']}"
            return {**score, "95 %\ninterval": interval, **steps, **seconds, "failed\nruns": failed}
        reached = {"reached\nit": f"{time['reached']} of {time['of']}"}
        if judge == "time-to-target":
            interval = span(time["low_steps"], time["high_steps"])
            return {**steps, "95 %\ninterval": interval, **seconds, **reached, **score}
        interval = span(time["low_seconds"], time["high_seconds"], 2)
        return {**seconds, "95 %\ninterval": interval, **steps, **reached, **score}

    def __repr__(self) -> str:
        return f"<Comparison: {self.verdict} Report: {self.report}>"

    def _repr_html_(self) -> str:
        rows = self.rows()
        head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
        body = "".join("<tr>" + "".join(f"<td>{escape(v)}</td>" for v in row.values()) + "</tr>" for row in rows)
        said = f"<p><b>{escape(self.verdict)}</b> {escape(' '.join(self.words))}</p>"
        return f"{said}<table><tr>{head}</tr>{body}</table><p>{escape(str(self.report))}</p>"


def _tuned(s: Mapping[str, Any]) -> str:
    if s.get("could_not_run") and s["valid"] is None:
        return "could not run"
    return ", ".join(f"{k} {shown(v)}" for k, v in s["hyperparameters"].items() if k in s["space"])


def span(low: float | None, high: float | None, digits: int = 4) -> str:
    """Returns the interval of a time, without an upper bound where that is not reached.

    >>> span(85.0, 120.0), span(85.0, None), span(None, None)
    ('85 to 120', '85 or more', '–')
    """
    if low is None:
        return "–"
    return f"{number(low, digits)} {'or more' if high is None else f'to {number(high, digits)}'}"


def number(value: float | None, digits: int = 4) -> str:
    """Returns the value with so many significant digits, or a dash.

    >>> number(0.97181), number(None), number(1250.0)
    ('0.9718', '–', '1250')
    """
    return "–" if value is None else f"{value:.{digits}g}"
