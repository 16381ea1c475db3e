"""``python -m tests.peers`` holds optimizers to their authors' loops; with ``--write`` it writes docs/peers.md."""

import argparse
import contextlib
import io
import json
import sys
import time
import warnings
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "peers.md"
HEAD = """# Optimizers of other packages

`thalweg compare` runs any installed optimizer as its author does; the [guide](guide.md#optimizers-of-other-packages)
says how to name one. This page holds what it does to loops that are written as the optimizers' own documentation says:
the same small network, the same minibatches and the same seeds, for 201 steps, in float32 on a CPU. *Straight* is the
largest difference of a validation loss at the three evaluations, and *cut* the same for a run that was stopped at a
third, stored, and resumed in another process's stead from what was stored. Up to 10⁻⁶ the loops agree.

`make peers` installs the packages (`thalweg[peers]`) and makes this table. Where it says *gradients*, a step evaluates
that many, and is charged for all of them.
"""


def main() -> int:
    """Holds the optimizers; returns 1 where one that is installed trains differently."""
    parser = argparse.ArgumentParser(prog="python -m tests.peers", description=__doc__)
    parser.add_argument("--only", default="", help="run only optimizers whose name contains this")
    parser.add_argument("--write", action="store_true", help="write docs/peers.md and docs/peers.json")
    asked = parser.parse_args()
    import torch

    from tests.peers.cases import CASES
    from tests.peers.held import hold, installed

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    began, rows = time.monotonic(), []
    for case in CASES:
        if asked.only not in case.name:
            continue
        with contextlib.redirect_stdout(io.StringIO()):  # several optimizers print
            held = hold(case)
        package = f"{case.distribution} {installed(case) or ''}".strip()
        row = {"optimizer": case.name, "package": package, "gradients": case.cost, **asdict(held)}
        rows.append(row | {"passes": held.passes, "reason": None if held.straight is not None else held.note})
        print(json.dumps(rows[-1]), flush=True)
    if asked.write:
        today = datetime.now(UTC).date().isoformat()
        _write(rows, f"{today}, torch {torch.__version__}, {time.monotonic() - began:.0f} s: `make peers`.")
    return int(any(row["straight"] is not None and not row["passes"] for row in rows))


def _write(rows: list[dict[str, Any]], made: str) -> None:
    PAGE.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    ran = [row for row in rows if row["straight"] is not None]
    packages = {row["package"] for row in ran if row["passes"]}
    says = f"{sum(row['passes'] for row in ran)} optimizers of {len(packages)} packages agree with their authors' loops"
    lines = ["| optimizer | package | straight | cut | |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        gaps = [_gap(row["straight"]), _gap(row["cut"])]
        said = [row["note"]] * bool(row["note"]) + [f"{row['gradients']} gradients"] * (row["gradients"] > 1)
        if row["reason"]:
            said = [f"could not run: {_cell(row['reason'])}"]
        lines.append("| " + " | ".join([f"`{row['optimizer']}`", row["package"], *gaps, "; ".join(said)]) + " |")
    PAGE.write_text("\n".join([HEAD, f"{says}.", "", *lines, "", made, ""]), encoding="utf-8")


def _gap(gap: float | None) -> str:
    return "–" if gap is None else "0" if gap == 0 else f"{gap:.1g}" if gap <= 1e-6 else f"**{gap:.1g}**"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(main())
