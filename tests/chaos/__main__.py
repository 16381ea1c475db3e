"""``python -m tests.chaos``: tries every fault, prints, and with ``--write`` makes docs/chaos.md."""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "chaos.md"
HEAD = """# Faults

What `thalweg compare` was put through, and what came of it. A fault is survived when the same command, given again,
ends well, or, where a study is damaged, when one line says so; every record is then the undisturbed study's, bit for
bit (to rounding where lanes were split). A record is lost when it was in the store before the fault and not after it.
The command is begun by a fork of a process that has imported torch, so that a round takes about a second; lanes run
uncompiled for the same reason. A third of the kills fall while the store is written.
"""


def main() -> int:
    """Tries the faults; returns 1 where one was not survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of tries")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and places")
    parser.add_argument("--write", action="store_true", help="make docs/chaos.md and docs/chaos.json")
    asked = parser.parse_args()
    os.environ |= {"TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"}  # before torch is imported
    from tests.chaos.faults import Field, everything

    began, tallies = time.monotonic(), []
    with tempfile.TemporaryDirectory() as scratch:
        for tally in everything(Field(Path(scratch), asked.seed), asked.scale):
            tallies.append(asdict(tally))
            print(json.dumps(tallies[-1]), flush=True)
    names = ("fault", "tried", "survived", "records_lost", "wrong_results")
    rows = [[str(tally[name]) for name in names] for tally in tallies if tally["tried"]]
    lines = ["| " + " | ".join(row) + " |" for row in [[name.replace("_", " ") for name in names], ["---"] * 5, *rows]]
    today, seconds = datetime.now(UTC).date().isoformat(), round(time.monotonic() - began)
    command = f"python -m tests.chaos --scale {asked.scale:g} --seed {asked.seed}"
    if asked.write:
        foot = f"{today}, {seconds} s: `{command}` (`make chaos`).\n"
        PAGE.write_text("\n".join([HEAD, *lines, "", foot]), encoding="utf-8")
        record = {"date": today, "seconds": seconds, "command": command, "tallies": tallies}
        PAGE.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    bad = [t for t in tallies if t["survived"] < t["tried"] or t["records_lost"] or t["wrong_results"] or t["failures"]]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
