"""``python -m tests.chaos`` tries every fault, prints the outcomes, and with ``--write`` writes docs/chaos.md."""

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "chaos.md"
HEAD = """# Faults

This page lists the faults that `thalweg compare` was tested against, and the outcomes. A fault counts as survived if
the same command, given again, finishes the study, or, where the study's files are damaged, if a one-line message says
so. In the first case, every record must equal that of the undisturbed study bit for bit (up to rounding where a group
of lanes was split). A record counts as lost if it was in the store before the fault and is missing afterwards.

Each command is started as a fork of a process that has already imported torch, so that one attempt takes about a
second. For the same reason, lanes run uncompiled, three at a time. Each trial, or group of lanes, is written
separately, and a third of the kills happen while the store is being written. Ray and its nodes are separate processes
on the same machine.
"""


def main() -> int:
    """Tries the faults; returns 1 where one was not survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the number of attempts")
    parser.add_argument("--seed", type=int, default=0, help="seed of the times and places of the faults")
    parser.add_argument(
        "--only", default="", help="run only faults whose name contains this; the others keep their rows"
    )
    parser.add_argument("--write", action="store_true", help="write docs/chaos.md and docs/chaos.json")
    asked = parser.parse_args()
    os.environ |= {"TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"}  # before torch is imported
    from tests.chaos.faults import Field, everything

    began, tallies = time.monotonic(), []
    command = f"python -m tests.chaos --scale {asked.scale:g} --seed {asked.seed}"
    command += f" --only {shlex.quote(asked.only)}" if asked.only else ""
    with tempfile.TemporaryDirectory() as scratch:
        for tally in everything(Field(Path(scratch), asked.seed), asked.scale, asked.only):
            tallies.append(asdict(tally))
            print(json.dumps(tallies[-1]), flush=True)
    if asked.write:
        today = datetime.now(UTC).date().isoformat()
        _write(tallies, f"{today}, {time.monotonic() - began:.0f} s: `{command}`")
    bad = [t for t in tallies if t["survived"] < t["tried"] or t["records_lost"] or t["wrong_results"] or t["failures"]]
    return 1 if bad else 0


def _write(tallies: list[dict[str, Any]], made: str) -> None:
    """Puts the tallies into docs/chaos.json, in place of those of the same faults, and makes the page of all."""
    path = PAGE.with_suffix(".json")
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    rows = {tally["fault"]: tally for tally in held} | {tally["fault"]: {**tally, "made": made} for tally in tallies}
    path.write_text(json.dumps(list(rows.values()), indent=1) + "\n", encoding="utf-8")
    names = ("fault", "tried", "survived", "records_lost", "wrong_results")
    table = [[name.replace("_", " ") for name in names], ["---"] * 5]
    table += [[str(row[name]) for name in names] for row in rows.values() if row["tried"]]
    lines = ["| " + " | ".join(row) + " |" for row in table]
    foot = [f"{made}." for made in dict.fromkeys(row["made"] for row in rows.values())]
    PAGE.write_text("\n".join([HEAD, *lines, "", *foot, ""]), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
