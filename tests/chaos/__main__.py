"""``python -m tests.chaos``: tries every fault, prints, and with ``--write`` makes docs/chaos.md."""

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

What `thalweg compare` was put through, and what came of it. A fault is survived when the same command, given again,
ends well, or, where a study is damaged, when one line says so; every record is then the undisturbed study's, bit for
bit (to rounding where lanes were split). A record is lost when it was in the store before the fault and not after it.
The command is begun by a fork of a process that has imported torch, so that a round takes about a second; lanes run
uncompiled for the same reason, three at a time. Each trial, or group of lanes, is written by itself, and a third of the
kills fall while the store is written. Ray and its nodes, which are processes of their own, are on this machine too.
"""


def main() -> int:
    """Tries the faults; returns 1 where one was not survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of tries")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and places")
    parser.add_argument("--only", default="", help="faults whose name has this in it; others keep their rows")
    parser.add_argument("--write", action="store_true", help="make docs/chaos.md and docs/chaos.json")
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
