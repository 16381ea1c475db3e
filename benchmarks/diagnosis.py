"""The share of planted faults that a diagnosis finds, its warnings on sound models, and its time.

``benchmarks/planted_faults.py`` contains the faults, with one or more specimens of each kind. A fault counts as found
if a warning or an error of its kind names its place, and as fixed if the printed line, run as it is, removes that
finding. The sound models, of ``benchmarks/sound_models.py``, are drawn from three seeds. All of these models were known
while the thresholds were set, so the shares describe these models and are no estimate for others. Curvature, noise and
learning rates are not measured for them.

Times are processor times that include all measurements: for ``digits``, the command as a user runs it, imports
included; for five dense layers of 1,500 units; for a transformer of 24 small layers; for an LSTM over 200 steps.
"""

import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import thalweg
from benchmarks import planted_faults, sound_models
from benchmarks.measure import table
from benchmarks.planted_faults import Fault
from benchmarks.sound_models import Case, recurrent, series, tokens, transformer

SEEDS = 3
QUICK = {"curvature_steps": 0, "noise_batches": 0, "range_steps": 0}


def measure() -> dict[str, Any]:
    """Returns what was found of each specimen, the false alarms, and seconds of the processor."""
    warnings.filterwarnings("ignore", "Using a target size")
    sets = (
        ("first", planted_faults.FIRST, sound_models.FIRST),
        ("further", planted_faults.FURTHER, sound_models.FURTHER),
    )
    faults = [
        {"part": part, "kind": kind, "specimen": name, **_planted(fault)}
        for part, kinds, _ in sets
        for kind, specimens in kinds.items()
        for name, fault in specimens.items()
    ]
    alarms = {
        part: [
            f"{name}, seed {seed}: {kind}"
            for name, build in sound.items()
            for seed in range(SEEDS)
            for kind in _alarms(build, seed)
        ]
        for part, _, sound in sets
    }
    return {
        "faults": faults,
        "alarms": alarms,
        "looked at": {part: SEEDS * len(sound) for part, _, sound in sets},
        "seconds": _times(),
    }


def _look(case: Case) -> list[Any]:
    found = thalweg.diagnose(case.model, (case.inputs, case.target), case.loss, **QUICK)
    return [f for f in found if f.severity != "note"]


def _planted(fault: Fault) -> dict[str, bool]:
    torch.manual_seed(0)
    case = fault.build()
    hit = next((f for f in _look(case) if f.kind in fault.findings and f.layer in fault.layers), None)
    if hit is None or not hit.fix_code:
        return {"found": hit is not None, "mended": False}
    names = {**case._asdict(), "torch": torch, "thalweg": thalweg}
    exec(hit.fix_code, names)
    left = _look(case._replace(**{key: names[key] for key in case._asdict()}))
    return {"found": True, "mended": (hit.kind, hit.layer) not in [(f.kind, f.layer) for f in left]}


def _alarms(build: Callable[[], Case], seed: int) -> list[str]:
    torch.manual_seed(seed)
    return [f.kind for f in _look(build())]


def _times() -> dict[str, float]:
    torch.manual_seed(0)
    loss = nn.functional.cross_entropy
    wide = nn.Sequential(
        *(part for width in (784, 1500, 1500, 1500, 1500) for part in (nn.Linear(width, 1500), nn.ReLU())),
        nn.Linear(1500, 10),
    )
    batches = [(torch.randn(64, 784), torch.randint(10, (64,))) for _ in range(32)]
    models: dict[str, tuple[nn.Module, list[Any]]] = {
        f"{sum(p.numel() for p in wide.parameters()):,} parameters": (wide, batches),
        "transformer of 24 layers": (transformer(24), [tokens()]),
        "LSTM over 200 steps": (recurrent(), [series(length=200)]),
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "thalweg", "diagnose", "digits"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {"thalweg diagnose digits": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}
    for name, (model, given) in models.items():
        began = time.process_time()
        thalweg.diagnose(model, given[0], loss, more=given[1:])
        found[name] = time.process_time() - began
    return found


def show(found: dict[str, Any]) -> str:
    """Returns the tables."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for fault in found["faults"]:
        kinds.setdefault(fault["kind"], []).append(fault)
    rows = [
        [kind, f"{sum(f['found'] for f in own)} of {len(own)}", f"{sum(f['mended'] for f in own)} of {len(own)}"]
        for kind, own in kinds.items()
    ]
    for part, alarms in found["alarms"].items():
        own = [f for f in found["faults"] if f["part"] == part]
        rows.append(
            [
                f"all, {part} set",
                f"{sum(f['found'] for f in own)} of {len(own)}",
                f"{sum(f['mended'] for f in own)} of {len(own)}",
            ]
        )
        rows.append([f"warnings of sound models, {part} set", f"{len(alarms)} in {found['looked at'][part]}", ""])
    times = [[name, seconds] for name, seconds in found["seconds"].items()]
    return "\n\n".join([table(["planted fault", "found", "fixed"], rows), table(["what", "processor time (s)"], times)])
