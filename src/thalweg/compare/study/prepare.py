"""What is known and chosen before the first trial of a study: the task, its costs, the budget, the engines."""

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from thalweg.compare.arguments import in_words, usable_device
from thalweg.compare.design import Budget
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.engine_set import EngineSet
from thalweg.compare.execution.job import training
from thalweg.compare.execution.local_engines import LocalEngines
from thalweg.compare.execution.ray.engines import Cluster, RayEngines
from thalweg.compare.names import as_folder
from thalweg.compare.storage.facts import CHARGED, DIAGNOSIS, ENGINE, NOTES, RUN, engine_choices
from thalweg.compare.storage.store import Store
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.third_party import finds_in_words
from thalweg.compare.strategy.variants import Variant, built
from thalweg.compare.study.config import StudyConfig
from thalweg.compare.study.description import circumstances, loss_of, study_of, task_of
from thalweg.compare.study.lengths import Lengths, budget_of, check_ends, check_target, length_of, planned
from thalweg.compare.study.notes import before_first_step, findings_in_words, lengths_in_words, partners_in_words
from thalweg.compare.study.prepare_loop import PreparedLoop, prepare_loop
from thalweg.compare.study.time_budget import measured_lengths, stored_lengths
from thalweg.compare.task import Task, materialize, try_model, unshared, with_metric
from thalweg.compare.task.loading import load_task
from thalweg.compare.task.loop import TrainingLoop
from thalweg.compare.user_errors import TaskError, brief, user_errors
from thalweg.diagnosis import Diagnosis, Finding, diagnose
from thalweg.optim.decay import Decay
from thalweg.tensors import derive_seed

OWN_STEP = "the model was not diagnosed, since the task has a step of its own"
UNSAVED = (
    "the model changes {} in a step, which cannot be saved: where a run goes on later, that begins anew; keep tensors, "
    "numbers, texts and containers of them to have it saved"
)
GIVEN = "all runs start from the weights that the model has; Task(start='anew') draws them for each seed"


@dataclass(frozen=True)
class Prepared:
    """A study that can begin.

    Attributes:
        config: as it was asked for.
        given: the task as it was loaded.
        contexts: of the task as it is, and of each variant of it that a strategy asks for.
        charged: what a run of each strategy spends before its first step, by what it is for.
        budget: of the study.
        folder: of the study.
        trained_on: name of the device that trains, which is a worker's where Ray trains.
    """

    config: StudyConfig
    given: Task
    contexts: Mapping[Variant, TaskContext]
    charged: Mapping[str, Mapping[str, int]]
    budget: Budget
    folder: Path
    trained_on: str

    @property
    def context(self) -> TaskContext:
        """That of the task as it is."""
        return self.contexts[Variant()]

    @property
    def device(self) -> torch.device:
        """On which this process trains."""
        return self.context.device

    @property
    def sign(self) -> float:
        """By what the metric is multiplied so that less is better."""
        return self.context.sign

    @property
    def lines(self) -> list[str]:
        """What the user should know of the runs."""
        rates = [line for s in self.config.strategies for line in finds_in_words(s.name, s.factory, s.space)]
        return [*_varied(self.given, self.context), *rates, *self.notes]

    @property
    def notes(self) -> list[str]:
        """What the optimizers of matrices step, in lines."""
        found = []
        for variant, context in self.contexts.items():
            own = [s for s in self.config.strategies if s.has_partner and s.variant == variant]
            found += partners_in_words(own, context.roles) if own else []
        return found

    def diagnosis(self) -> dict[str, Any]:
        """Returns what one batch shows of the untrained model."""
        return _diagnosed(self.context, self.config.seed)

    @property
    def spent(self) -> dict[str, int]:
        """How many gradient evaluations a run of each strategy spends before its first step."""
        return {name: sum(costs.values()) for name, costs in self.charged.items()}

    def design(self) -> dict[str, Any]:
        """Returns what makes the study what it is."""
        return study_of(task_of(self.contexts), self.config, self.budget, self.trained_on)

    def only(self, names: Sequence[str], seeds: int) -> "Prepared":
        """Returns the part of the study with strategies of these names, in their order, and so many seeds."""
        config = self.config.only(names, seeds)
        variants = dict.fromkeys([Variant(), *(s.variant for s in config.strategies)])
        contexts = {variant: self.contexts[variant] for variant in variants}
        charged = {name: self.charged[name] for name in names}
        budget = budget_of(config, Lengths.of_budget(self.budget, names), self.spent)
        return replace(self, config=config, contexts=contexts, charged=charged, budget=budget)

    def engines(self, say: Callable[[str], None]) -> EngineSet:
        """Returns the engines among which those of the study are chosen; ``say`` is called with lines for the user."""
        c = self.config
        if c.engine != "ray":
            return LocalEngines(self.contexts, c.strategies, c.engine, c.memory, self.budget)
        return RayEngines(
            self.given,
            c.strategies,
            self.budget,
            c.cluster or Cluster(),
            device=self.trained_on,
            memory=c.memory,
            swap=c.swap_batch_norm,
            say=say,
            decay=c.decay,
        )


def prepare(config: StudyConfig) -> Prepared | PreparedLoop:
    """Loads the task, and checks that every strategy can train it.

    Raises:
        ValueError: one cannot, or the device cannot be used.
    """
    if config.engine == "ray":  # its workers have the devices
        device, trained_on = torch.device("cpu"), (config.cluster or Cluster()).device(config.device)
    else:
        device = usable_device(config.device)
        trained_on = str(device)
    with user_errors("the task"):
        loaded = load_task(config.task, config.here)
        if isinstance(loaded, TrainingLoop):
            return prepare_loop(config, loaded, device)
        given = unshared(replace(loaded, **config.stepping))
        _check_starts(given, config.strategies)
        contexts = _contexts(given, config.strategies, config.swap_batch_norm, device, config.decay)
        task = contexts[Variant()].task
        given = replace(given, metric=task.metric)
        check_target(task)
    check_ends(contexts, config.strategies)
    folder = config.here / (config.out if config.out is not None else f"thalweg-{as_folder(task.name)}")
    charged, budget = planned(config, contexts, Lengths(length_of(config, contexts[Variant()])))
    if seconds := config.study_seconds:
        lengths = stored_lengths(folder, seconds, config.strategies) or measured_lengths(
            config, contexts, budget, seconds
        )
        charged, budget = planned(config, contexts, lengths)
    return Prepared(config, given, contexts, charged, budget, folder, trained_on)


def _check_starts(task: Task, strategies: Sequence[Strategy]) -> None:
    """Raises TaskError where a strategy would draw anew the weights that a model is given with."""
    drawn = [s.name for s in strategies if s.initialization != "default"]
    if task.is_given and drawn:
        raise TaskError(
            f"strategy {drawn[0]!r} draws the weights anew, and the model is given with its own: confirm it with "
            "Task(start='anew'), or omit the initialization"
        )


def set_up(
    prepared: Prepared | PreparedLoop, store: Store, engines: EngineSet, command: str | None, is_new: bool
) -> list[str]:
    """Takes up the engines that the store names; chooses them where it names none, and writes how the study begins.

    Arguments:
        prepared: the study.
        store: of the study.
        engines: among which to choose.
        command: the command line to show in the report.
        is_new: whether its folder is removed where a strategy is refused.

    Returns:
        What the user should know of it, in lines.
    """
    facts, seed = store.facts(), prepared.config.seed
    if ENGINE in facts:
        with store.reading():
            engines.reuse([*engine_choices(facts)][-1][1])  # those of the rung that was begun last
    else:
        with _removed_if_refused(prepared.folder, is_new), training():
            engines.choose(seed)
        loss = loss_of(prepared.given) if isinstance(prepared, Prepared) else "that of the training loop"
        known = circumstances(prepared.device, command, prepared.config.task)
        store.add_fact(RUN, {**known, "device": prepared.trained_on, "loss": loss})
        with training():
            diagnosis = prepared.diagnosis()
        store.add_fact(DIAGNOSIS, diagnosis)
        store.add_fact(CHARGED, prepared.charged)
        if prepared.notes:
            store.add_fact(NOTES, prepared.notes)
        store.add_fact(ENGINE, [c.as_dict() for c in engines.choices])  # last: it stands for all of them
    alike: dict[tuple[str, str], list[str]] = {}
    for choice in filter(lambda choice: choice.can_run, engines.choices):
        alike.setdefault((choice.name, choice.reason), []).append(choice.title)
    chosen = [f"engine for {', '.join(titles)}: {name} ({reason})" for (name, reason), titles in alike.items()]
    chosen += [f"{choice.title} could not run: {choice.reason}" for choice in engines.choices if not choice.can_run]
    begin = prepared.lines
    budget = prepared.budget
    if budget.study_seconds is not None:
        about = f"about {in_words(budget.study_seconds)} in all, if nothing else runs here"
        lengths = lengths_in_words(budget, [s.name for s in prepared.config.strategies if s.closure])
        begin.append(f"{lengths}{':' if budget.lengths is None else ';'} {about}")
    charged = {name: costs for name, costs in prepared.charged.items() if costs}
    costs = [f"{name}: {before_first_step(costs, budget.of(name).steps)}" for name, costs in charged.items()]
    return [*chosen, *begin, *costs, *findings_in_words(store.fact(DIAGNOSIS))]


def _varied(given: Task, context: TaskContext) -> list[str]:
    """Returns what a seed varies, and which examples are read anew, in lines."""
    begin = [GIVEN] if given.is_given else []
    varied = [] if given.is_given else ["the weights that runs start from"]
    varied.append("the order of the examples")
    if context.is_random():
        varied.append("what the model draws as it trains")
    if any(split.draws for split in context.data.parts):
        varied.append("what the data draw as they are read")
    read = [f"the {split.part} data are {split.how}" for split in context.data.parts if split.how]
    begin += context.task.grouping.lines(context.model)
    if kept := [name.removeprefix(".") for name in context.unsaved()]:
        begin.append(UNSAVED.format(", ".join(kept)))
    return [*begin, *read, f"a seed varies {', '.join(varied[:-1])}{' and ' * (len(varied) > 1)}{varied[-1]}"]


@contextmanager
def _removed_if_refused(folder: Path, is_new: bool) -> Iterator[None]:
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
    given = with_metric(given, data)
    plain = replace(plain, metric=given.metric)
    contexts = {Variant(): TaskContext(plain, data, device, decay)}
    for variant in dict.fromkeys(s.variant for s in strategies):
        if variant not in contexts:
            other = built(given, variant, swap)
            try_model(other, data)
            contexts[variant] = TaskContext(other, data, device, decay)
    return contexts


def _diagnosed(context: TaskContext, seed: int) -> dict[str, Any]:
    """Returns what one batch shows of the untrained model, without what takes many gradients, or why nothing."""
    loss = context.task.loss
    if loss is None:
        return Diagnosis((Finding("not diagnosed", "note", "", math.nan, OWN_STEP),)).as_dict()
    rows = context.batches(derive_seed(seed, "diagnosis"), 0, 1)[0]
    batch = context.data.train.batch(context.parts(rows)[0])
    model = context.fresh_model("default", derive_seed(seed, "diagnosis"))
    try:
        found = diagnose(model, tuple(batch), loss, curvature_steps=0, noise_batches=0, range_steps=0)
    except Exception as error:
        why = f"the model could not be diagnosed, so problems may go unnoticed: {brief(error)}"
        found = Diagnosis((Finding("not diagnosed", "note", "", math.nan, why),))
    return found.as_dict()
