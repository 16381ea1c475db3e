"""``thalweg.compare``: from a task and names of strategies to a finished, shown, stored study."""

import math
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from thalweg.compare.comparison import Comparison
from thalweg.compare.design import Budget
from thalweg.compare.device import usable_device
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.engine_set import EngineSet
from thalweg.compare.execution.guidance import guidance_of
from thalweg.compare.execution.job import training
from thalweg.compare.execution.local_engines import LocalEngines
from thalweg.compare.execution.ray.engines import Cluster, RayEngines
from thalweg.compare.execution.selection import Name
from thalweg.compare.log import Log, Logging, tracker_of
from thalweg.compare.names import as_folder
from thalweg.compare.ranges import SECONDS, SEED, SEEDS, TRIALS, check_above, check_whole
from thalweg.compare.storage.store import Store, finished
from thalweg.compare.strategy import DEFAULT_STRATEGIES, Strategy
from thalweg.compare.strategy.variants import Variant, built
from thalweg.compare.study.description import circumstances, design_of
from thalweg.compare.study.engine_of_rung import choose_again
from thalweg.compare.study.results import before_first_step
from thalweg.compare.study.study import Reporter, Study
from thalweg.compare.task import Task, materialize, try_model
from thalweg.compare.task.loading import load_task
from thalweg.compare.user_errors import StudyError, brief, user_errors
from thalweg.diagnosis import Diagnosis, Finding, diagnose
from thalweg.optim.decay import Decay, check_decay
from thalweg.tensors import derive_seed
from thalweg.tensors.files import FileError, check_utf8

ENGINES = ("auto", "lanes", "serial", "ray")


class Silent:
    """A reporter that says nothing."""

    def stage(self, title: str, steps: int, left: int) -> None:
        """Says nothing."""

    def advance(self, steps: int) -> None:
        """Says nothing."""

    def standing(self, best: Mapping[str, float]) -> None:
        """Says nothing."""

    def say(self, line: str) -> None:
        """Says nothing."""


def compare(
    task: str | Task = "digits",
    strategies: str | Strategy | Sequence[str | Strategy] = DEFAULT_STRATEGIES,
    *,
    trials: int = 16,
    steps: int | None = None,
    seeds: int = 10,
    engine: Name | Literal["ray"] = "auto",
    cluster: Cluster | None = None,
    device: str | None = None,
    out: str | Path | None = None,
    memory: int | None = None,
    swap_batch_norm: bool = False,
    decay: Decay = "all",
    trial_seconds: float | None = None,
    log: str | Sequence[str] = (),
    seed: int = 0,
    reporter: Reporter | None = None,
    command: str | None = None,
    here: Path | None = None,
) -> Comparison:
    """Says which strategy trains the task's model best, by how much, how surely and at what cost.

    Every strategy gets the same number of gradient evaluations: its default configuration and ``trials``
    more for tuning on validation data, then ``seeds`` fresh paired runs of its best, tested once. See the
    guide for the protocol.

    Arguments:
        task: a built-in name, ``"my.py:task"``, or a :class:`thalweg.Task`.
        strategies: names, see :meth:`Strategy.parse`, or :class:`thalweg.Strategy` objects; names may stand in one
            text, with commas between them.
        trials: configurations a strategy beside its default one, at least 1.
        steps: gradient evaluations of a whole run; the task's own by default.
        seeds: paired final runs a strategy; with 1 there is no interval and so no winner.
        engine: ``"lanes"``, ``"serial"`` or ``"auto"`` (measures both in turns); ``"ray"`` spreads trials over the
            workers of a Ray cluster, each of which chooses likewise.
        cluster: for ``"ray"``: where it is, and what each worker gets of it; one on this machine by default.
        device: ``"cpu"``, ``"cuda"``, …; CUDA when present by default.
        out: folder of the study; ``thalweg-TASK`` by default. A study that was cut off goes on.
        memory: bytes that lanes may take; half of what is free by default.
        swap_batch_norm: whether to replace torch's batch normalizations by thalweg's, which lanes can stack.
        decay: to what every strategy applies its weight decay, where it has any: to ``"all"`` parameters, or to
            ``"weights"``, those of two dimensions or more, see :func:`thalweg.optim.no_decay_groups`. An optimizer
            that a function of yours makes keeps the groups that it is made with, which ``"weights"`` divides.
        log: trackers that records are written to as each rung is done: ``"tensorboard"``, ``"mlflow"``, ``"wandb"``,
            also with a place, as ``"tensorboard=runs"``.
        trial_seconds: how long a run may take from one rung to the next; one that takes longer is cut off and counts as
            diverged. In lanes it bounds what the lanes take together; those of a group that hangs run again one by one.
        seed: root of every random draw.
        reporter: is told how it goes; silent by default.
        command: the command line to show in the report.
        here: folder that relative paths start from; the current one, as it is now, by default.

    Returns:
        The finished :class:`Comparison`.

    Raises:
        ValueError: bad input; one line with the cause and the remedy.
        StudyError: the folder cannot be used.

    Source: Deep Learning, §8.5.4 ("Choosing the right optimization algorithm"), §11.4.
    """
    began, here = time.perf_counter(), here or Path.cwd()  # the user's code may change the current folder
    reporter = reporter or Silent()
    check_whole("trials", trials, most=TRIALS)
    check_whole("seeds", seeds, most=SEEDS)
    check_whole("seed", seed, *SEED)
    if steps is not None:
        check_whole("steps", steps)
    if memory is not None:
        check_above("memory", memory)
    check_utf8(here / (out or ""))
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}: choose among {', '.join(ENGINES)}")
    if out is not None and not str(out):
        raise ValueError("out is empty: name a folder, or leave it out")
    check_decay(decay)
    if trial_seconds is not None:
        check_above("trial_seconds", trial_seconds, SECONDS)
    chosen = [s if isinstance(s, Strategy) else Strategy.parse(s, here) for s in _several(strategies, "strategies")]
    _check_names(chosen)
    if engine == "ray":  # its workers have the devices
        cluster = cluster or Cluster()
        local_device, trained_on = torch.device("cpu"), cluster.device(device)
    elif cluster:
        raise ValueError("a cluster is for engine='ray' (--engine ray): give that, or leave out the cluster")
    else:
        local_device = usable_device(device)
        trained_on = str(local_device)
    trackers = [tracker_of(spec, here) for spec in _several(log, "log")]
    with user_errors("the task"):
        given = load_task(task, here)
        contexts = _contexts(given, chosen, swap_batch_norm, local_device, decay)
        the_task = contexts[Variant()].task
        length = steps if steps is not None else the_task.steps
        charged = {s.name: _charged(contexts[s.variant], s, length) for s in chosen}
    prepared = {name: sum(costs.values()) for name, costs in charged.items()}
    warmup = max(_settled(s, prepared[s.name], length) for s in chosen)
    budget = Budget(trials, length, seeds, warmup, trial_seconds)
    folder = here / (out if out is not None else f"thalweg-{as_folder(the_task.name)}")
    with ExitStack() as ended:
        engines: EngineSet
        if engine == "ray":
            engines = RayEngines(
                given,
                chosen,
                budget,
                cluster or Cluster(),
                device=trained_on,
                memory=memory,
                swap=swap_batch_norm,
                say=reporter.say,
                decay=decay,
            )
            ended.callback(engines.close)
            if not (folder / "study.sqlite").exists():
                engines.connect()  # or there is no study
        else:
            engines = LocalEngines(contexts, chosen, engine, memory, budget)
        is_new = not folder.exists()
        store = Store.resume_or_create(folder, design_of(contexts, chosen, budget, seed, engine, trained_on, decay))
        ended.callback(store.close)
        facts, held = store.facts(), sum(store.counts().values())
        if finished(facts):
            reporter.say("the study is finished: nothing is trained again")
        elif held:
            reporter.say(f"going on: {held:,} runs are in the store")
        if "engine" in facts:
            with store.reading():
                engines.reuse(facts["engine"])
        else:
            with _left_out_if_refused(folder, is_new), training():
                engines.choose(seed)
            store.add_fact("run", {**circumstances(local_device, command), "device": trained_on})
            with training():
                diagnosis = _diagnosed(contexts[Variant()], seed)
            store.add_fact("diagnosis", diagnosis)
            store.add_fact("charged", charged)
            store.add_fact("engine", [c.as_dict() for c in engines.choices])  # last: it stands for all of them
        for choice in engines.choices:
            reporter.say(f"engine for {choice.title}: {choice.name} ({choice.reason})")
        for name, costs in charged.items():
            if costs:
                reporter.say(f"{name}: {before_first_step(costs, length)}")
        for line in _graver(store.fact("diagnosis")):
            reporter.say(line)
        records = Log(store, trackers, reporter.say)
        reporter = Logging(reporter, records)
        sign = contexts[Variant()].sign
        if not finished(facts):
            begin = partial(choose_again, engines, store, seed, reporter.say)
            Study(
                chosen, budget, seed, store, engines.engine_of, engines.serial_of, sign, reporter, prepared, begin
            ).run()
            store.add_fact("seconds", time.perf_counter() - began)
        comparison = Comparison.from_store(store, folder)
        try:
            comparison.write()
        except FileError as error:
            if not finished(facts):
                raise
            reporter.say(str(error))
        records.conclude(comparison)
        return comparison


@contextmanager
def _left_out_if_refused(folder: Path, is_new: bool) -> Iterator[None]:
    """Runs its body; where that refuses a strategy, a study that is new has not begun, and its folder is removed."""
    try:
        yield
    except ValueError:
        if is_new:
            shutil.rmtree(folder)
        raise


def _contexts(
    given: Task, strategies: Sequence[Strategy], swap: bool, device: torch.device, decay: Decay
) -> dict[Variant, TaskContext]:
    """Returns a task context for the task as it is, and for each variant of it that a strategy asks for.

    Raises:
        TaskError: one of them cannot be trained.
    """
    plain = built(given, Variant(), swap)
    data = materialize(plain)
    contexts = {Variant(): TaskContext(plain, data, device, decay)}
    for variant in dict.fromkeys(s.variant for s in strategies):
        if variant not in contexts:
            other = built(given, variant, swap)
            try_model(other, data)
            contexts[variant] = TaskContext(other, data, device, decay)
    return contexts


def _charged(context: TaskContext, strategy: Strategy, steps: int) -> dict[str, int]:
    """Returns what a run spends before its first step, by what it is for.

    Raises:
        ValueError: it is more than half of the run, or the task lacks what it takes.
    """
    costs = guidance_of(strategy).charged(context, strategy, steps)
    spent = sum(costs.values())
    if spent > steps / 2:
        raise ValueError(
            f"strategy {strategy.name!r}: {before_first_step(costs, steps)}, more than half: give more --steps"
        )
    return costs


def _settled(strategy: Strategy, prepared: int, steps: int) -> int:
    """Returns the gradient evaluations of a run before which nothing can be said of its strategy."""
    own = strategy.schedule.warmup_steps(steps - prepared)
    return prepared + max(own, steps // 8 if prepared else 0)


def _diagnosed(context: TaskContext, seed: int) -> dict[str, Any]:
    """Returns what one batch shows of the untrained model, without what takes many gradients, or why nothing."""
    rows = context.batches(derive_seed(seed, "diagnosis"), 0, 1)[0]
    batch = (context.data.train_x[rows], context.data.train_y[rows])
    model = context.fresh_model("default", derive_seed(seed, "diagnosis"))
    try:
        found = diagnose(model, batch, context.task.loss, curvature_steps=0, noise_batches=0, range_steps=0)
    except Exception as error:
        why = f"the model could not be diagnosed, so that faults of it may be unseen: {brief(error)}"
        found = Diagnosis((Finding("not diagnosed", "note", "", math.nan, why),))
    return found.as_dict()


def _graver(diagnosis: Mapping[str, Any] | None) -> list[str]:
    """Returns a line for each finding above a note."""
    found = [f for f in (diagnosis or {}).get("findings", []) if f["severity"] != "note"]
    return [f"the untrained model: {f['kind']}{_of(f)}: {f['meaning']}{_fix(f)}" for f in found]


def _of(finding: Mapping[str, Any]) -> str:
    """Returns layer, figure and threshold of a finding, as far as it has them."""
    known = (finding["layer"], finding["figure"], finding.get("threshold"))
    layer, figure, bound = (v if isinstance(v, str) or v is None else f"{v:.4g}" for v in known)
    shown = [layer, f"figure {figure}" if figure else "", f"threshold {bound}" if bound else ""]
    return f" ({', '.join(part for part in shown if part)})"


def _fix(finding: Mapping[str, Any]) -> str:
    return f"; fix: {finding['fix']}" if finding["fix"] else ""


def _several(given: Any, name: str) -> Sequence[Any]:
    """Returns what was given as a sequence: one thing, or a text of names with commas between them, as such."""
    if isinstance(given, str):
        return [word.strip() for word in given.split(",") if word.strip()]
    if isinstance(given, Strategy):
        return [given]
    if not isinstance(given, Iterable):
        raise ValueError(f"{name} is {given!r}: give a list of names")
    return list(given)


def _check_names(strategies: Sequence[Strategy]) -> None:
    names = [s.name for s in strategies]
    if not names:
        raise ValueError("no strategies: name at least one, or two to compare")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"strategy {twice[0]!r} is named twice: leave one out")


__all__ = ["Silent", "StudyError", "compare", "usable_device"]
