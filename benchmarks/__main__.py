"""``python -m benchmarks [NAME ...]`` measures, prints, and writes docs/benchmarks/NAME.json and docs/benchmarks.md."""

import argparse
import importlib
import json
import re
import textwrap
import time
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import torch

from benchmarks.measure import machine

QUESTIONS = [
    "throughput",
    "tasks",
    "any_training",
    "recurrent",
    "study_time",
    "truth",
    "time_to_target",
    "until",
    "tabular",
    "gate",
    "mlp_classifier",
    "step",
    "default_step",
    "matrix_rules",
    "products",
    "lbfgs_time",
    "overhead",
    "deep",
    "large_batches",
    "minimizers",
    "initialization",
    "diagnosis",
    "one_pass",
    "batch_norm",
    "averaging",
    "what_helps",
    "sparse_coding",
    "guided",
    "curriculum",
    "training_loop",
    "sharded",
    "store_load",
    "serving",
    "ray_engine",
    "gpu",
]
INTRODUCTION = """`make bench` runs all benchmarks on this page, and `python -m benchmarks NAME` runs one of them. The
line below each benchmark names the date, the machine, the command and its duration. A *goal* is the figure that the
project set itself before it measured; the last section lists what was tried where a goal is not reached. "In turns"
means that the measured alternatives alternate, so that other load on the machine affects all of them alike."""
DOCS = Path(__file__).parent.parent / "docs"
RECORDS = DOCS / "benchmarks"


def main() -> None:
    """Runs the named benchmarks; by default all, that of a GPU where there is one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    here = [name for name in QUESTIONS if name != "gpu" or torch.cuda.is_available()]
    named = f"any of {', '.join(QUESTIONS)}; all by default, gpu where there is one"
    parser.add_argument("names", nargs="*", default=here, metavar="NAME", help=named)
    names = parser.parse_args().names
    for name in names:
        if name not in QUESTIONS:
            parser.error(f"no benchmark {name!r}: choose among {', '.join(QUESTIONS)}")
    RECORDS.mkdir(exist_ok=True)
    for name in names:
        question = _question(name)
        print(f"{question.__doc__}\n", flush=True)
        began = time.perf_counter()
        found = question.measure()
        today = datetime.now(UTC).date().isoformat()
        record = {"date": today, "seconds": time.perf_counter() - began, "machine": machine(), "found": found}
        (RECORDS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(question.show(found), "\n", flush=True)
    (DOCS / "benchmarks.md").write_text(_page(), encoding="utf-8")


def _question(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{name}")


def _wrapped(text: str) -> str:
    """Returns the text with its paragraphs, but neither tables nor lists, wrapped at 120 columns.

    Neither code nor the address of a link is broken.
    """

    def filled(part: str) -> str:
        kept = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", "\0"), part)
        return textwrap.fill(kept, 120, break_on_hyphens=False, break_long_words=False).replace("\0", " ")

    return "\n\n".join(
        part if part.startswith(("|", "!", "- ")) else filled(part) for part in text.strip().split("\n\n")
    )


def _page() -> str:
    """Returns the page of all records that there are, and of what was tried where a figure was not reached."""
    parts = ["# Benchmarks", _wrapped(INTRODUCTION)]
    for name in QUESTIONS:
        path = RECORDS / f"{name}.json"
        if path.exists():
            record = json.loads(path.read_text(encoding="utf-8"))
            where = record["machine"]
            question = _question(name)
            parts += [
                f"## {name.replace('_', ' ').capitalize()}",
                _wrapped(str(question.__doc__)),
                _wrapped(question.show(record["found"])),
                _wrapped(
                    f"{record['date']}, {where['processor']}, {where['cores']} cores, torch {where['torch']}, "
                    f"Python {where['python']}; `python -m benchmarks {name}`, {record['seconds']:.0f} s."
                ),
            ]
    notes = RECORDS / "notes.md"
    if notes.exists():
        parts.append(notes.read_text(encoding="utf-8").strip())
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
