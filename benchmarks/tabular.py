"""Published runs of 16 optimizers on 17 tabular data sets, read again by the verdict's tests.

"Benchmarking Optimizers for MLPs in Tabular Deep Learning" (arXiv 2604.15297) publishes the test score of each of ten
seeds of every optimizer on every data set. Its wins over AdamW are Welch's t tests at 5 %, one per data set and
optimizer. Here the same scores are judged as `thalweg compare` and `thalweg suite` judge theirs: on a data set by the
exact signed-rank test at 0.05 over the number of rivals, and over data sets by the sign test that must hold whichever
data set is left out. Each optimizer was tuned once on each data set, so the luck of tuning, which a verdict of
`thalweg compare` includes, is in neither of the two: even a win that stands is one of the chosen configuration.
"""

import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtr

from thalweg.compare.study.judged import Judged, Runs
from thalweg.compare.study.verdict import pairs
from thalweg.compare.suite.summary import summarize

SOURCE = "https://github.com/yandex-research/tabular-dl-optimizers"
COMMIT = "c34e33152db9eea8ed4b2d742b9bef5628d71fb5"  # of git: the checksum of all that it holds
RIVAL = "adamw"
MODELS = ("mlp", "mlp-piecewiselinear", "tabm", "tabm-packed", "tabm-piecewiselinear")


def measure() -> dict[str, Any]:
    """Returns what each optimizer wins and loses against AdamW, as published and by the verdict's tests."""
    scores = _scores()
    return {"models": {model: _against(scores[model]) for model in MODELS}}


def _scores() -> dict[str, dict[str, dict[str, list[float]]]]:
    """Returns by model, data set and optimizer the test score of every seed; higher is better."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {model: {} for model in MODELS}
    for name, text in _records():
        _, model, optimizer, *data, _, _ = name.split("/")
        runs = [run["report"]["metrics"]["test"]["score"] for run in json.loads(text)["experiments"]]
        found[model].setdefault("/".join(data), {})[optimizer] = [float(score) for score in runs]
    return found


def _records() -> Iterator[tuple[str, bytes]]:
    """Yields every record of final runs, from a clone in ``THALWEG_DATA/tabular-dl-optimizers``, or one made now."""
    clone = Path(os.environ.get("THALWEG_DATA", "data")) / "tabular-dl-optimizers"
    with tempfile.TemporaryDirectory() as folder:
        if not clone.exists():
            clone = Path(folder) / "clone"
            subprocess.run(["git", "clone", "--quiet", "--bare", SOURCE, str(clone)], check=True)
        archive = Path(folder) / "records.tar"
        subprocess.run(["git", "-C", str(clone), "archive", f"--output={archive}", COMMIT, "exp"], check=True)
        with tarfile.open(archive) as records:
            for member in records:
                if member.name.endswith("/evaluation/report.json") and (stream := records.extractfile(member)):
                    yield member.name, stream.read()


def _against(scores: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    names = sorted(next(iter(scores.values())))
    results = {data: _judged(runs) for data, runs in scores.items()}
    rows = []
    for name in (n for n in names if n != RIVAL):
        welch = [_welch(runs[name], runs[RIVAL]) for runs in scores.values()]
        found = summarize(results, name, [RIVAL]).against[0]
        tested = summarize(results, name, [n for n in names if n != name])
        general = next(one for one in tested.against if one.rival == RIVAL)
        rows.append(
            {
                "optimizer": name,
                "published": [sum(w > 0 for w in welch), sum(w == 0 for w in welch), sum(w < 0 for w in welch)],
                "verdict": [found.wins, found.ties, found.losses],
                "stand": sum(w > 0 and o == "win" for w, o in zip(welch, found.outcomes.values(), strict=True)),
                "share": [found.low, found.high],
                "p": found.p,
                "general": "better" if general.better else "worse" if general.worse else "not shown",
                "hinges_on": general.hinges_on,
            }
        )
    return sorted(rows, key=lambda row: row["verdict"][2] - row["verdict"][0])


def _judged(runs: dict[str, list[float]]) -> dict[str, Any]:
    """Returns a data set's runs in the form of ``results.json``, as far as a suite reads it."""
    judged = Judged(
        {name: Runs(own, [False] * len(own), [None] * len(own)) for name, own in runs.items()},
        "max",
        "score",
        is_tuned_apart=False,
    )
    strategies = [
        {"name": name, "failed": {"count": 0, "of": len(own)}, "to_target": {"steps": None}}
        for name, own in runs.items()
    ]
    return {"pairs": pairs(judged), "strategies": strategies}


def _welch(a: list[float], b: list[float]) -> int:
    """Returns 1 or −1 where the means differ by Welch's two-sided test at 5 %, else 0."""
    x, y = np.asarray(a), np.asarray(b)
    u, v = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    if u + v == 0:
        return int(np.sign(x.mean() - y.mean()))
    t = (x.mean() - y.mean()) / np.sqrt(u + v)
    freedom = (u + v) ** 2 / (u**2 / (len(x) - 1) + v**2 / (len(y) - 1))
    return int(np.sign(t)) if 2 * stdtr(freedom, -abs(t)) < 0.05 else 0


def show(found: dict[str, Any]) -> str:
    """Returns the tables in Markdown."""
    lines = []
    for model, rows in found["models"].items():
        won, stood = sum(row["published"][0] for row in rows), sum(row["stand"] for row in rows)
        lines += [
            f"Model `{model}`: {won} wins as published, of which {stood} stand.",
            "",
            "| optimizer | wins, ties, losses against AdamW as published | by the verdict's test | share of wins, 95 % "
            "| sign test p | in general, among all |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for row in rows:
            counts = [", ".join(map(str, row[which])) for which in ("published", "verdict")]
            share = " to ".join(f"{100 * bound:.0f}" for bound in row["share"])
            hinges = f" (hinges on {', '.join(row['hinges_on'])})" if row["hinges_on"] else ""
            answer = row["general"] + hinges
            lines.append(f"| {row['optimizer']} | {counts[0]} | {counts[1]} | {share} % | {row['p']:.2g} | {answer} |")
        lines.append("")
    return "\n".join(lines).rstrip()
