"""``thalweg.compare``: from a task and names of strategies to a finished, shown, stored study."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from thalweg.compare.comparison import Comparison
from thalweg.compare.execution import EngineName
from thalweg.compare.execution.ray.engines import Cluster
from thalweg.compare.log.log import Log, Logging
from thalweg.compare.log.tracker import tracker_of
from thalweg.compare.storage.facts import SECONDS, finished
from thalweg.compare.storage.store import FILE, Store
from thalweg.compare.strategy import DEFAULT_STRATEGIES, Strategy
from thalweg.compare.study.config import StudyConfig, listed, parsed
from thalweg.compare.study.prepare import prepare, set_up
from thalweg.compare.study.reporter import Reporter
from thalweg.compare.study.study import Study
from thalweg.compare.task import Task
from thalweg.optim.decay import Decay
from thalweg.tensors.files import FileError


def compare(
    task: str | Task = "digits",
    strategies: str | Strategy | Sequence[str | Strategy] = DEFAULT_STRATEGIES,
    *,
    trials: int = 16,
    steps: int | None = None,
    seeds: int = 10,
    engine: EngineName = "auto",
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
    here = here or Path.cwd()  # the user's code may change the current folder
    config = StudyConfig(
        task,
        parsed(strategies, here),
        trials,
        steps,
        seeds,
        engine,
        cluster,
        device,
        out,
        memory,
        swap_batch_norm,
        decay,
        trial_seconds,
        listed(log, "log"),
        seed,
        here,
    )
    return run(config, reporter, command)


def run(config: StudyConfig, reporter: Reporter | None = None, command: str | None = None) -> Comparison:
    """Prepares a study, runs what its store does not hold yet, and concludes it; see :func:`compare`."""
    began, reporter = time.perf_counter(), reporter or Reporter()
    trackers = [tracker_of(spec, config.here) for spec in config.log]
    prepared = prepare(config)
    folder, engines = prepared.folder, prepared.engines(reporter.say)
    with ExitStack() as ended:
        ended.callback(engines.close)
        if not (folder / FILE).exists():
            engines.connect()  # or there is no study
        is_new = not folder.exists()
        store = Store.resume_or_create(folder, prepared.design())
        ended.callback(store.close)
        was_finished, held = finished(store.facts()), sum(store.counts().values())
        if was_finished:
            reporter.say("the study is finished: nothing is trained again")
        elif held:
            reporter.say(f"going on: {held:,} runs are in the store")
        for line in set_up(prepared, store, engines, command, is_new):
            reporter.say(line)
        log = Log(store, trackers, reporter.say)
        if not was_finished:
            sign, spent = prepared.context.sign, prepared.spent
            Study(config, prepared.budget, store, engines, Logging(reporter, log), sign, spent).run()
            store.add_fact(SECONDS, time.perf_counter() - began)
        comparison = Comparison.from_store(store, folder)
        try:
            comparison.write()
        except FileError as error:
            if not was_finished:
                raise
            reporter.say(str(error))
        log.conclude(comparison)
        return comparison
