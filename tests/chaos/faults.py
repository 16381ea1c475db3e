"""The faults, each tried many times: what was tried, what survived, records lost, results that were wrong.

A fault is survived when the same command, given again, ends well (or, where a study is damaged, when a line says
so), and every record is the undisturbed study's, bit for bit.
"""

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.chaos.command import VICTIM, Process, start
from tests.chaos.ray_nodes import ALONE, RayNodes, kill, trains
from tests.waiting import LONG, until
from thalweg.compare.comparison import Comparison
from thalweg.compare.storage.store import Store, StudyError

Records = dict[tuple[str, str], Any]


@dataclass
class Tally:
    """What became of one fault."""

    fault: str
    tried: int = 0
    survived: int = 0
    records_lost: int = 0
    wrong_results: int = 0
    failures: list[str] = field(default_factory=list)

    def count(self, good: bool, why: str = "") -> None:
        """Counts one try."""
        self.tried += 1
        self.survived += good
        if not good:
            self.failures.append(why[-600:])


class Field:
    """Where the faults are tried: a scratch folder, seeded draws, and each engine's undisturbed records."""

    def __init__(self, scratch: Path, seed: int) -> None:
        self.scratch, self.draws = scratch, random.Random(seed)
        self._whole: dict[tuple[str, ...], tuple[Records, float]] = {}
        self._count = 0

    def folder(self) -> Path:
        """Returns a new place for a study."""
        self._count += 1
        return self.scratch / f"study-{self._count}"

    def whole(
        self, engine: str, task: str = "task", strategies: str = "sgd,adam", more: Sequence[str] = ()
    ) -> tuple[Records, float]:
        """Returns the records of the undisturbed study, and the seconds that it takes."""
        key = engine, task, strategies, *more
        if key not in self._whole:
            folder, began = self.folder(), time.monotonic()
            process = start(folder, engine, task, strategies, more)
            if process.wait():
                raise RuntimeError(f"the undisturbed study ended with {process.code}: {process.said}")
            self._whole[key] = records(folder), time.monotonic() - began
        return self._whole[key]


def records(folder: Path) -> Records:
    """Returns what the store holds; nothing where there is no study yet."""
    if not (folder / "study.sqlite").exists():
        return {}
    store = Store.open(folder)
    try:
        return {(r["rung"], r["key"]): r for r in store.records()}
    finally:
        store.close()


def _ended(tally: Tally, process: Process, folder: Path, expected: Records) -> bool:
    """Says whether the command ended well with the expected records, and counts wrong ones."""
    found = records(folder) if process.wait() == 0 else {}
    wrong = sum(found[key] != expected.get(key) for key in found)
    tally.wrong_results += wrong
    return process.code == 0 and found == expected and (folder / "report.html").exists()


def killed(place: Field, engine: str, count: int, number: int = signal.SIGKILL) -> Tally:
    """Kills the command at random moments, a third of them while the store is written, until it has once ended."""
    name = "kill -9" if number == signal.SIGKILL else "SIGTERM"
    tally = Tally(f"{name} of `compare --engine {engine}`")
    more = ["--memory", "13K"] if engine == "lanes" else []  # three lanes, so that a rung is written in parts
    expected, whole = place.whole(engine, more=more)
    while tally.tried < count:
        folder, kills, before = place.folder(), 0, {}
        while True:
            process = start(folder, engine, more=more)
            if tally.tried + kills < count:
                _until_a_moment(place, folder, process, whole)
                process.signal(number)
            if process.wait() == 0:
                break
            if number == signal.SIGTERM and process.code not in (143, -number):
                tally.failures.append(f"SIGTERM ended with {process.code}: {process.said[-300:]}")
                break
            if process.code not in (143, -number):
                tally.failures.append(f"ended with {process.code}: {process.said[-300:]}")
                break
            kills += 1
            now = records(folder)
            tally.records_lost += sum(key not in now for key in before)
            tally.wrong_results += sum(now[key] != expected.get(key) for key in now)
            before = now
        good = process.code == 0 and records(folder) == expected
        tally.wrong_results += process.code == 0 and not good
        for _ in range(kills):
            tally.count(good, process.said)
        shutil.rmtree(folder)
    return tally


def _until_a_moment(place: Field, folder: Path, process: Process, whole: float) -> None:
    if place.draws.random() < 1 / 3:  # while the log or the beginning of a study is written
        seen, nth = None, place.draws.randrange(1, 25)
        end = time.monotonic() + 2 * whole
        while nth and not process.poll() and time.monotonic() < end:
            sizes = [_size(folder / f"study.sqlite{end}") for end in (".part", "", "-wal")]
            nth -= sizes != seen
            seen = sizes
        time.sleep(place.draws.uniform(0, 0.003))
    else:
        end = time.monotonic() + place.draws.uniform(0, 1.05 * whole)
        while not process.poll() and time.monotonic() < end:
            time.sleep(0.001)


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return -1


def file_limit(place: Field, count: int) -> Tally:
    """Lets no file grow beyond a size, another each time, from none to that of the whole study; then goes on."""
    tally = Tally("a limit on the file size (at each write in turn)")
    expected, _ = place.whole("serial")
    sizes = [0, 100, 4096, *(4096 * place.draws.randrange(1, 60) + place.draws.randrange(4096) for _ in range(count))]
    for size in sizes[:count]:
        folder = place.folder()
        process = start(folder, before=lambda size=size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
        _goes_on(tally, process, folder, expected)
    return tally


def full_disk(place: Field, count: int) -> Tally:
    """Puts the study on a disk with so much room, another each time; then makes room and goes on."""
    tally = Tally("a full disk (tmpfs)")
    expected, _ = place.whole("serial")
    for _ in range(count):
        disk = place.folder()
        disk.mkdir()
        size = 4 * place.draws.randrange(1, 1500) if place.draws.random() < 0.3 else 4 * place.draws.randrange(1, 120)
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", disk], capture_output=True
        ).returncode:
            break  # not allowed here
        try:
            process = start(disk / "study")
            process.wait()
            with contextlib.suppress(OSError):
                shutil.move(process.errors, process.errors.parent.parent / "errors")
                process.errors = process.errors.parent.parent / "errors"
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            _goes_on(tally, process, disk / "study", expected)
        finally:
            subprocess.run(["umount", disk], check=True)
    return tally


def _goes_on(tally: Tally, process: Process, folder: Path, expected: Records) -> None:
    """Counts a command that was stopped by its disk: a line, or all was there; and the next one goes on."""
    stopped = process.wait() == 0 or process.line or not process.said
    before, said = records(folder), process.said
    tally.wrong_results += sum(before[key] != expected.get(key) for key in before)
    again = start(folder)
    good = _ended(tally, again, folder, expected)
    tally.records_lost += sum(key not in records(folder) for key in before)
    tally.count(stopped and good, f"{process.code}: {said[-300:]} | {again.code}: {again.said[-300:]}")


def damaged(place: Field, count: int, cut: bool) -> Tally:
    """Turns a bit over in the store or its log, or cuts its tail: found and said, or without any consequence."""
    tally = Tally("truncation of the store or its log" if cut else "flipped bits in the store or its log")
    expected, _ = place.whole("serial")
    done, half = place.folder(), place.folder()
    start(done).wait()
    shown = Comparison.open(done).results
    process = start(half)
    until(lambda: process.poll() or len(_quietly(half)) >= 8)
    process.signal(signal.SIGKILL)
    for i in range(count):
        folder, source = place.folder(), done if i % 3 else half
        shutil.copytree(source, folder)
        log = folder / "study.sqlite-wal"
        path = log if log.exists() and place.draws.random() < 0.7 else folder / "study.sqlite"
        raw = bytearray(path.read_bytes())
        if cut:
            raw = raw[: place.draws.randrange(len(raw))]
        elif raw:
            raw[place.draws.randrange(len(raw))] ^= 1 << place.draws.randrange(8)
        path.write_bytes(raw)
        if source is done:
            try:
                same = Comparison.open(folder).results == shown
                tally.wrong_results += not same
                tally.count(same, f"{path.name}: other results")
            except StudyError as error:
                tally.count("\n" not in str(error))
            except Exception as error:
                tally.count(False, f"{path.name}: {type(error).__name__}: {error}")
        else:
            again = start(folder)
            again.wait()
            tally.count(again.line or _ended(tally, again, folder, expected), f"{path.name} {again.code}: {again.said}")
        shutil.rmtree(folder)
    return tally


def _quietly(folder: Path) -> Records:
    try:
        return records(folder)
    except StudyError:
        return {}


def clock(place: Field, count: int) -> Tally:
    """Lets the wall clock jump by up to two years at every look at it, and the command be killed in between."""
    tally = Tally("clock jumps")
    expected, whole = place.whole("serial")

    def jumping(seed: int) -> Callable[[], None]:
        def before() -> None:
            import thalweg.compare.study.description as module

            draws, now, stamp = random.Random(seed), time.time, module.datetime

            class Jumping(stamp):  # type: ignore[misc, valid-type]
                @classmethod
                def now(cls, zone: Any = None) -> Any:
                    return stamp.fromtimestamp(time.time(), zone)

            time.time = lambda: now() + draws.uniform(-6e7, 6e7)
            module.datetime = Jumping  # type: ignore[attr-defined]

        return before

    for i in range(count):
        folder = place.folder()
        process = start(folder, before=jumping(i))
        time.sleep(place.draws.uniform(0, whole))
        process.signal(signal.SIGKILL)
        again = start(folder, before=jumping(-i - 1))
        tally.count(_ended(tally, again, folder, expected), again.said)
    return tally


def two_at_once(place: Field, count: int) -> Tally:
    """Begins the command twice on one folder, a moment apart: one writes, the other says so or finds all done."""
    tally = Tally("two processes on one folder")
    expected, whole = place.whole("serial")
    for _ in range(count):
        folder = place.folder()
        one = start(folder)
        time.sleep(place.draws.uniform(0, whole) * place.draws.randrange(2))
        errors = folder.parent / "first.errors"
        with contextlib.suppress(OSError):
            os.replace(one.errors, errors)  # the file stays open under its new name
            one.errors = errors
        two = start(folder)
        codes = sorted([one.wait(), two.wait()])
        loser = one if one.code else two
        good = codes == [0, 0] or (codes == [0, 2] and loser.line and "is running in" in loser.said)
        tally.wrong_results += records(folder) != expected
        tally.count(good and records(folder) == expected, f"{codes}: {one.said[-300:]} | {two.said[-300:]}")
    return tally


def out_of_memory(place: Field, count: int) -> Tally:
    """Lets the device have memory for few lanes only, after some steps: the group is split, and trains on."""
    tally = Tally("out of memory in a group of lanes")
    expected, _ = place.whole("lanes")

    def short(fits: int, after: int) -> Callable[[], None]:
        def before() -> None:
            from thalweg.compare.execution.lanes import Lanes

            kernel = Lanes._gradient_kernel

            def starved(self: Lanes) -> Any:
                inner, calls = kernel(self), 0

                def gradient(flat: Any, buffers: Any, batch: Any) -> Any:
                    nonlocal calls
                    calls += 1
                    if len(flat) > fits and calls > after:
                        raise torch.OutOfMemoryError("CUDA out of memory.")
                    return inner(flat, buffers, batch)

                return gradient

            Lanes._gradient_kernel = starved  # type: ignore[method-assign]

        return before

    for _ in range(count):
        folder = place.folder()
        process = start(folder, "lanes", before=short(place.draws.randrange(1, 5), place.draws.randrange(110, 140)))
        process.wait()
        found = records(folder)
        good = (
            process.code == 0
            and found.keys() == expected.keys()
            and all(map(_near, found.values(), (expected[k] for k in found)))
        )
        tally.wrong_results += process.code == 0 and not good
        tally.count(good, process.said)
    return tally


def _near(a: Any, b: Any) -> bool:
    """Says whether two records agree to rounding: so many lanes at once add up in another order than others."""
    pairs = zip(a["curve"]["valid_loss"], b["curve"]["valid_loss"], strict=True)
    return a["curve"]["step"] == b["curve"]["step"] and all(abs(x - y) <= 1e-5 * abs(y) for x, y in pairs)


def hanging(place: Field, count: int) -> Tally:
    """Lets every trial of one strategy hang at a step: each is cut off; the other strategy's are as ever."""
    tally = Tally("a step that hangs, with --trial-seconds")
    expected, _ = place.whole("serial")
    mine = {key: r for key, r in expected.items() if r["strategy"] == "sgd"}
    for _ in range(count):
        folder = place.folder()
        spec = f"{VICTIM}:sleepy"
        process = start(
            folder,
            strategies=f"sgd,{spec}",
            more=["--trial-seconds", str(LONG)],
            environment={"CHAOS": str(place.draws.randrange(1, 15))},
        )
        process.wait()
        found = records(folder)
        good = {k: r for k, r in found.items() if r["strategy"] == "sgd"} == mine
        cut = [r["status"] for r in found.values() if r["strategy"] != "sgd"]
        tally.wrong_results += process.code == 0 and not good
        tally.count(process.code == 0 and good and set(cut) == {"timed out"}, process.said)
    return tally


def raising(place: Field, count: int) -> Tally:
    """Lets the data raise at the 500th example, or the loss at some step: a line; once mended the command goes on."""
    tally = Tally("data or a loss that raises an error")
    for i in range(count):
        task = "loaded" if i % 2 else "raising"
        expected, _ = place.whole("serial", task)
        folder = place.folder()
        process = start(folder, task=task, environment={"CHAOS": str(place.draws.randrange(2, 700))})
        said = process.wait() == 0 or process.line
        before, words = records(folder), process.said
        again = start(folder, task=task)
        good = _ended(tally, again, folder, expected)
        tally.records_lost += sum(key not in records(folder) for key in before)
        tally.count(good and said, f"{words} | {again.said}")
    return tally


def lost_node(place: Field, count: int) -> Tally:
    """Kills a Ray node with all its processes, the store of objects and the agents too, while it trains."""
    tally = Tally("a Ray node that dies")
    slow = f"sgd,{VICTIM}:slow"
    expected, _ = place.whole("serial", strategies=slow)
    with RayNodes() as nodes:
        nodes.add()
        for _ in range(count):
            node, folder = nodes.add(), place.folder()
            process = start(folder, "ray", strategies=slow, more=["--ray-address", nodes.address], environment=ALONE)
            until(lambda process=process, node=node: process.poll() or trains(node))
            time.sleep(place.draws.uniform(0, 0.5))
            kill(node)
            tally.count(_ended(tally, process, folder, expected), process.said)
    return tally


def everything(place: Field, scale: float, only: str = "") -> Iterator[Tally]:
    """Yields the tally of each fault with ``only`` in its name, tried in proportion to ``scale``."""

    def times(count: int) -> int:
        return max(1, round(scale * count))

    faults: dict[str, Callable[[], Tally]] = {
        "kill -9 serial": lambda: killed(place, "serial", times(200)),
        "kill -9 lanes": lambda: killed(place, "lanes", times(200)),
        "SIGTERM serial": lambda: killed(place, "serial", times(40), signal.SIGTERM),
        "file limit": lambda: file_limit(place, times(60)),
        "full disk": lambda: full_disk(place, times(60)),
        "flipped bytes": lambda: damaged(place, times(600), cut=False),
        "cut tails": lambda: damaged(place, times(200), cut=True),
        "clock": lambda: clock(place, times(20)),
        "two at once": lambda: two_at_once(place, times(30)),
        "out of memory": lambda: out_of_memory(place, times(20)),
        "hanging": lambda: hanging(place, times(10)),
        "raising": lambda: raising(place, times(30)),
    }
    if scale >= 0.1:  # a Ray takes ten seconds to begin
        faults["kill -9 ray"] = lambda: killed(place, "ray", times(200))
        faults["lost node"] = lambda: lost_node(place, times(20))
    yield from (fault() for name, fault in faults.items() if only in name)
