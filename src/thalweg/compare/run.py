"""``thalweg.compare``: from a task and names of strategies to a finished, shown, stored study."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Literal

from thalweg.compare.comparison import Comparison
from thalweg.compare.execution import EngineName
from thalweg.compare.execution.loop.run import Run
from thalweg.compare.execution.ray.engines import Cluster
from thalweg.compare.log.log import Log, Logging
from thalweg.compare.log.tracker import tracker_of
from thalweg.compare.storage.create import FILE
from thalweg.compare.storage.facts import ENGINE, SECONDS, finished
from thalweg.compare.storage.store import Store
from thalweg.compare.strategy import DEFAULT_STRATEGIES, Strategy
from thalweg.compare.strategy.options import Tune
from thalweg.compare.study import Judge, looks
from thalweg.compare.study.adding import add, extends, in_stored_order
from thalweg.compare.study.config import StudyConfig, listed, parsed
from thalweg.compare.study.prepare import prepare, set_up
from thalweg.compare.study.reporter import Reporter
from thalweg.compare.study.study import Study
from thalweg.compare.task import Task
from thalweg.compare.task.grouping import NoDecay
from thalweg.compare.task.loop import TrainingLoop
from thalweg.compare.task.task import Precision
from thalweg.optim.decay import Decay
from thalweg.tensors.files import FileError


def compare(
    task: str | Task | TrainingLoop | Callable[[Run], None] = "digits",
    strategies: str | Strategy | Sequence[str | Strategy] = DEFAULT_STRATEGIES,
    *,
    add: str | Strategy | Sequence[str | Strategy] = (),
    tune: Tune | None = None,
    trials: int = 12,
    steps: int | None = None,
    epochs: int | None = None,
    budget: str | float | None = None,
    seeds: int = 10,
    engine: EngineName = "auto",
    cluster: Cluster | None = None,
    device: str | None = None,
    out: str | Path | None = None,
    memory: int | None = None,
    swap_batch_norm: bool = False,
    decay: Decay = "all",
    precision: Precision | None = None,
    accumulate: int | None = None,
    clip_norm: float | None = None,
    no_decay: NoDecay | None = None,
    within: float | None = None,
    judge: Judge = "metric",
    target: float | None = None,
    until: Literal["decided"] | None = None,
    at_most: str | float | None = None,
    trial_seconds: float | None = None,
    log: str | Sequence[str] = (),
    seed: int = 0,
    reporter: Reporter | None = None,
    command: str | None = None,
    here: Path | None = None,
) -> Comparison:
    """Finds out which strategy trains the model of a task best, by how much, with what confidence and at what cost.

    Every strategy gets the same number of gradient evaluations. Its default configuration and ``trials`` more are
    tuned on validation data; then what halves of the trials choose is run from ``seeds`` new seeds, which are the
    same for all strategies, and tested once. The guide describes the protocol.

    Arguments:
        task: the name of a built-in task, ``"my.py:task"``, a :class:`thalweg.Task`, or a training loop:
            a function of a :class:`thalweg.Run`, or a :class:`thalweg.TrainingLoop`.
        strategies: names, see :meth:`Strategy.parse`, or :class:`thalweg.Strategy` objects; names can also be given as
            one string, separated by commas.
        add: strategies to add to the study that ``out`` holds, which has ``strategies`` and is otherwise as it is asked
            for; see ``seeds``. They are trained with the same budget, and paired with the others.
        tune: ``"more"`` tunes more than the learning rate: of each built-in strategy the ranges that the guide lists
            are searched too. Of your own, :meth:`Strategy.with_space` and :meth:`Strategy.with_settings` say what is
            searched and what is set.
        trials: number of configurations per strategy in addition to its default one, at least 1.
        steps: number of gradient evaluations of a complete run; by default the task's own.
        epochs: the same in passes over the training data, of as many steps as it has whole batches.
        budget: the time of the whole study, as ``"20min"`` or a number of seconds, in place of ``steps``: runs are as
            long as measured costs let them be, the same number of gradient evaluations for all strategies.
        seeds: number of paired final runs per strategy; the verdict needs 7 or more. Where ``out`` holds the study with
            fewer of them, or with some of the strategies alone, the others are added to it, which the notes say.
        engine: ``"lanes"``, ``"serial"`` or ``"auto"`` (which measures both in turns); ``"ray"`` distributes trials
            over the workers of a Ray cluster, each of which makes the same choice.
        cluster: for ``"ray"``, the address of the cluster and the resources per worker; by default one on this machine.
        device: such as ``"cpu"`` or ``"cuda"``; by default CUDA if it is available.
        out: folder of the study; by default ``thalweg-TASK``. An interrupted study is resumed.
        memory: limit of the memory of the lanes, in bytes; by default half of the free memory.
        swap_batch_norm: whether to replace torch's batch normalizations with thalweg's, which lanes can stack.
        decay: the parameters to which weight decay applies: ``"all"``, or ``"weights"``, which are those of two
            dimensions or more, see :func:`thalweg.optim.no_decay_groups`. An optimizer that your own function makes
            keeps its groups, which ``"weights"`` divides.
        precision, accumulate, clip_norm, no_decay: in place of those of the :class:`thalweg.Task`.
        within: the difference of what is judged inside which strategies count as equivalent, in its unit; by default a
            tenth of the spread between the strategies.
        judge: by what strategies are judged, and by what tuning chooses: ``"metric"``, the test metric at the end of a
            run; ``"time-to-target"``, the gradient evaluations until the validation metric reaches the target; or
            ``"seconds-to-target"``, the seconds of training that these take on this machine, run alone. A run that does
            not reach the target ranks behind every run that does.
        target: of the validation metric, in place of the task's own; by default it is chosen from the tuning trials,
            or, where the metric is judged, from the final runs.
        until: ``"decided"`` adds up to three batches until one strategy is better than all others, or all that could be
            the best are equivalent. Each batch has further configurations, two fifths of ``trials``, and then further
            final runs, three fifths of ``seeds``, for the strategies that are not behind. The first look has a fourth
            of the level, each later one an eighth.
        at_most: the time after which ``until`` adds no more batches, as ``"20min"``, ``"1.5h"`` or a number of seconds,
            counted from the start of the study over all processes that resume it. No batch begins that would end
            later, judging by the one before; the first final runs are always made.
        log: trackers to which records are written soon after they are stored: ``"tensorboard"``, ``"mlflow"`` or
            ``"wandb"``, optionally with a place, as in ``"tensorboard=runs"``.
        trial_seconds: longest time of a run from one rung to the next; a run that takes longer is stopped and counts as
            diverged. In lanes it limits the time of all lanes together; if a group of lanes hangs, its trials run again
            one by one.
        seed: the seed from which all random numbers are derived.
        reporter: receives the progress; by default nothing is shown.
        command: the command line that the report shows.
        here: the folder against which relative paths are resolved; by default the current folder at the call.

    Returns:
        The finished :class:`Comparison`.

    Raises:
        ValueError: the input is invalid; the message is one line with the cause and the remedy.
        StudyError: the folder cannot be used.

    Source: Deep Learning, §8.5.4 ("Choosing the right optimization algorithm"), §11.4.
    """
    here = here or Path.cwd()  # the user's code may change the current folder
    more = parsed(add, here, tune)
    config = StudyConfig(
        task,
        [*parsed(strategies, here, tune), *more],
        trials=trials,
        steps=steps,
        epochs=epochs,
        budget=budget,
        seeds=seeds,
        engine=engine,
        cluster=cluster,
        device=device,
        out=out,
        memory=memory,
        swap_batch_norm=swap_batch_norm,
        decay=decay,
        precision=precision,
        accumulate=accumulate,
        clip_norm=clip_norm,
        no_decay=no_decay,
        within=within,
        judge=judge,
        target=target,
        until=until,
        at_most=at_most,
        trial_seconds=trial_seconds,
        log=listed(log, "log"),
        seed=seed,
        added=[strategy.name for strategy in more],
        here=here,
    )
    return run(config, reporter, command)


def run(config: StudyConfig, reporter: Reporter | None = None, command: str | None = None) -> Comparison:
    """Prepares a study, runs what its store does not hold yet, and concludes it; see :func:`compare`."""
    began, reporter = looks.clock(), reporter or Reporter()
    trackers = [tracker_of(spec, config.here) for spec in config.log]
    prepared = in_stored_order(prepare(config))
    folder, engines = prepared.folder, prepared.engines(reporter.say)
    with ExitStack() as ended:
        ended.callback(engines.close)
        if not (folder / FILE).exists():
            engines.connect()  # or there is no study
        is_new = not folder.exists()
        store = Store.resume_or_create(folder, prepared.design(), partial(extends, prepared))
        ended.callback(store.close)
        for line in add(prepared, store, engines, command):
            reporter.say(line)
        was_finished, held = finished(store.facts()), sum(store.counts().values())
        if was_finished:
            reporter.say("the study is already finished: its results are shown again")
        elif held:
            reporter.say(f"resuming: {held:,} runs are in the store")
        if ENGINE not in store.facts():
            reporter.say("measuring how fast each engine trains the model")
        for line in set_up(prepared, store, engines, command, is_new):
            reporter.say(line)
        log = Log(store, trackers, reporter.say)
        if not was_finished:
            sign, spent = prepared.sign, prepared.spent
            with looks.Stopwatch(store, began) as stopwatch:
                Study(
                    prepared.config, prepared.budget, store, engines, Logging(reporter, log), sign, spent, stopwatch
                ).run()
                store.add_fact(SECONDS, stopwatch.seconds)
        comparison = Comparison.from_store(store, folder)
        try:
            comparison.write()
        except FileError as error:
            if not was_finished:
                raise
            reporter.say(str(error))
        log.conclude(comparison)
        return comparison
