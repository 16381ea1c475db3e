"""Studies made without training, written by the store as ``thalweg compare`` writes them, up to any rung."""

import math
import random
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from tests.command import FORKS
from thalweg.compare.design import PROTOCOL, Budget
from thalweg.compare.rungs import TITLES
from thalweg.compare.storage.result import Curve, TrialResult
from thalweg.compare.storage.store import Store
from thalweg.compare.strategy import Strategy

NAMES = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "adam@cosine")
RUNGS = (*TITLES, "facts")


def design(names=NAMES, trials=4, steps=60, seeds=3, task="made", protocol=PROTOCOL):
    budget = Budget(trials, steps, seeds, protocol=protocol)
    sizes = dict.fromkeys(("train_size", "valid_size", "test_size", "parameters", "batch_size"), 100)
    return {
        "task": {
            "name": task,
            "description": "made up",
            "metric": "accuracy",
            "direction": "max",
            "range": [0.0, 1.0],
            "target": None,
            "model": "none",
            "digest": "0" * 64,
            **sizes,
        },
        "protocol": budget.protocol,
        "strategies": [Strategy.parse(name).describe() for name in names],
        "budget": budget.stated(),
        "within": None,
        "judge": "metric",
        "seed": 0,
        "engine": "serial",
        "device": "cpu",
        "decay": "all",
        "torch": "0",
    }


class Writer:
    """Writes a made-up study, rung by rung; ``budget`` and the random draws are the same every time.

    Arguments:
        folder: of the study.
        names: of the strategies.
        task: its name.
        tests: test scores of the final runs of each strategy, None for one that diverged; drawn where there are none.
        learned_nothing: test score of the untrained and of the constant model.
        budget: of the design.
    """

    def __init__(self, folder, names=NAMES, task="made", tests=None, learned_nothing=0.1, **budget):
        if tests:
            names, budget["seeds"] = tuple(tests), len(next(iter(tests.values())))
        self.names, self.tests, self.learned_nothing = names, tests, learned_nothing
        self.design = design(names, task=task, **budget)
        self.budget = Budget.from_design(self.design)
        self.store = Store.resume_or_create(folder, self.design)
        self.seconds = 1e-3

    def begin(self):
        engine = {"group": f"update rules ({len(self.names)} strategies)", "name": "serial", "reason": "made up"}
        self.store.add_fact("engine", [engine | {"trial_steps_per_second": 1 / self.seconds, "variant": ""}])
        machine = {"system": "s", "processor": "p", "threads": 1, "gpu": None}
        started = datetime.now(UTC).isoformat(timespec="seconds")
        run = {"command": "thalweg compare made", "versions": {"torch": "0"}, "machine": machine, "device": "cpu"}
        self.store.add_fact("run", run | {"started": started})
        self.store.add_fact("diagnosis", None)

    def rung(self, rung):
        budget = self.budget
        stop = budget.rung if rung in ("tune-1", "tune-2") else budget.steps
        start = budget.rung if rung == "tune-3" else 0
        first = budget.trials + 1 - budget.held_back
        numbers = {"tune-1": range(first), "tune-2": range(first, budget.trials + 1), "tune-3": range(budget.promoted)}
        is_final, records = rung == "final", []
        for i in numbers.get(rung, range(budget.seeds)):
            for name in self.names:
                key = f"{name}/final/{i}" if is_final else f"{name}/{i}"
                lr = 10 ** (-3 + (i % 3 if is_final else i) / budget.trials)
                records.append((name, {"lr": lr}, i, self.result(name, i, key, start, stop, is_final)))
        self.store.add(rung, [(i, *record) for i, record in enumerate(records)])

    def result(self, name, i, key, start, stop, test):
        draws = random.Random(f"{name} {i}")
        level, every = 0.5 + 0.4 * draws.random(), self.budget.evaluation_interval
        has_diverged = i and draws.random() < 0.1
        if test and self.tests:
            level, has_diverged = self.tests[name][i], self.tests[name][i] is None
        if has_diverged:
            return TrialResult(key, "diverged", start + 1, Curve(), 2.3)
        curve = Curve()
        for step in (*range(start + every, stop, every), stop):
            height = level * (1 - math.exp(-6 * step / self.budget.steps)) + 0.01 * draws.random()
            curve.add(step, 2.3 * (1 - height), 2.3 * (1 - height), height)
        return TrialResult(key, "finished", stop, curve, 2.3, level if test else None)

    def finish(self):
        for name in self.names:
            self.store.add_fact(f"winner {name}", {"hyper": {"lr": 1e-3}})
        self.store.add_fact("seconds_per_step", dict.fromkeys(self.names, 1e-3))
        starts = {s["start"]: [self.learned_nothing] * self.budget.seeds for s in self.design["strategies"]}
        self.store.add_fact("constant_test", self.learned_nothing)
        self.store.add_fact("untrained_test", starts)
        self.store.add_fact("seconds", 12.0)


def make(folder, until="facts", **options):
    """Writes a study up to and with a rung, or finished, and closes it."""
    writer = Writer(folder, **options)
    writer.begin()
    for rung in RUNGS[: RUNGS.index(until) + 1]:
        writer.finish() if rung == "facts" else writer.rung(rung)
    writer.store.close()
    return folder


class Process:
    """A process that writes the study of :class:`Writer`, a step each time that it is told to."""

    def __init__(self, folder, **budget):
        self.pipe, its = FORKS.Pipe()
        self.process = FORKS.Process(target=obey, args=(its, folder), kwargs=budget)
        self.process.start()
        its.close()
        assert self.pipe.recv() == "ready"

    def write(self, *steps):
        """Writes "begin", rungs and "facts"; returns when they are in the store."""
        for step in steps:
            self.pipe.send(step)
            assert self.pipe.recv() == step

    def end(self):
        """Closes the store and ends."""
        self.pipe.close()
        self.process.join()

    def kill(self):
        """Ends at once, as ``kill -9``."""
        self.process.kill()
        self.process.join()


@contextmanager
def writing(folder, **budget):
    """Yields a :class:`Process`, which ends with the block."""
    process = Process(folder, **budget)
    try:
        yield process
    finally:
        process.end()


def obey(pipe, folder, **budget):
    """Is the other end of :class:`Process`."""
    writer = Writer(folder, **budget)
    does = {"begin": writer.begin, "facts": writer.finish}
    pipe.send("ready")
    with suppress(EOFError):
        while True:
            step = pipe.recv()
            does[step]() if step in does else writer.rung(step)
            pipe.send(step)
    writer.store.close()
