"""Trial-steps per second on ``digits``: lanes, the plain loop and Optuna with two workers, and the hardware's limit.

A trial-step is one training step of one trial. The last row is the rate at which this machine computes the matrix
products of such a step and nothing else.
"""

import multiprocessing as mp
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.measure import alternately, cores, ratio, seconds, table
from benchmarks.plain_loop import OPTIMIZERS, best_setting, train
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.job import Job
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.selection import WIDEST
from thalweg.compare.strategy import Strategy
from thalweg.compare.task import materialize
from thalweg.compare.task.loading import load_task

STEPS, SEEDS, EVALUATE = 500, 10, 17
WORKERS = 2


def jobs_of(names: list[str], steps: int, seeds: int, evaluate: int) -> list[Job]:
    """Returns one job a strategy and seed, at the rates of the plain loop."""
    jobs = []
    for name in names:
        strategy = Strategy.parse(name)
        hyper = {**strategy.defaults, "lr": OPTIMIZERS[name][1]["lr"]}
        jobs += [Job(f"{name}/{s}", strategy, hyper, s, 0, steps, steps, evaluate) for s in range(seeds)]
    return jobs


def measure(rounds: int = 5) -> dict[str, Any]:
    """Returns medians and ratios."""
    task = load_task("digits")
    data = materialize(task)
    names = list(OPTIMIZERS)
    setting = best_setting(task, data, 300, names)
    threads = torch.get_num_threads()
    jobs = jobs_of(names, STEPS, SEEDS, EVALUATE)
    total = len(jobs) * STEPS
    one_seed = [replace(job, seed=0) for job in jobs]

    torch.set_num_threads(cores())
    context = TaskContext(task, data, torch.device("cpu"))
    width = -(-len(jobs) // -(-len(jobs) // WIDEST))
    lanes = Lanes(context, width)
    compiling = seconds(lambda: lanes.run([replace(job, stop=2) for job in jobs], lambda _: None))

    def run_lanes(which: list[Job]) -> float:
        torch.set_num_threads(cores())
        return total / seconds(lambda: lanes.run(which, lambda _: None))

    def run_plain() -> float:
        torch.set_num_threads(threads)
        began = time.perf_counter()
        for job in jobs:
            name = job.strategy.name
            train(task, data, name, job.seed, STEPS, EVALUATE, **setting["forms"][name])
        return total / (time.perf_counter() - began)

    found = alternately(
        {
            "lanes": lambda: run_lanes(jobs),
            "lanes, one seed": lambda: run_lanes(one_seed),
            "plain loop": run_plain,
            "Optuna, two workers": lambda: total / optuna_seconds(jobs, setting["forms"]),
            "matrix products": lambda: product_rate(width),
        },
        rounds,
    )
    torch.set_num_threads(cores())
    return {
        "trial_steps": total,
        "lanes": width,
        "threads_of_the_plain_loop": threads,
        "forms_of_torch_optim": setting["forms"],
        "compile_seconds": compiling,
        "trial_steps_per_second": {name: median(values) for name, values in found.items()},
        "times_the_plain_loop": ratio(found["lanes"], found["plain loop"]),
        "times_two_workers": ratio(found["lanes"], found["Optuna, two workers"]),
        "share_of_the_matrix_product_rate": ratio(found["lanes"], found["matrix products"]),
        "times_the_plain_loop_compile_included_in_a_default_study": _with_compile(found, compiling),
    }


def _with_compile(found: dict[str, list[float]], compiling: float) -> float:
    """Returns the ratio over the 78,696 trial-steps of a default study, compiling counted."""
    study = 78_696
    return median(
        (study / plain) / (study / lanes + compiling)
        for lanes, plain in zip(found["lanes"], found["plain loop"], strict=True)
    )


def product_rate(width: int) -> float:
    """Returns the trial-steps a second at which the machine does their matrix products and nothing else.

    They are the products of ``width`` stacked models, in the shapes and orders of ``digits``: forward, gradients of
    the weights, gradients of the inputs for all layers but the first; and the forward pass over the 300 validation
    examples that every ``EVALUATE``-th step adds.
    """
    torch.set_num_threads(cores())
    batch, layers = 64, [(64, 64), (64, 64), (64, 10)]
    step = []
    for i, (m, n) in enumerate(layers):
        x, w, slope = (torch.randn(width, *shape) for shape in ((batch, m), (n, m), (batch, n)))
        step += [(x, w.mT), (slope.mT, x)] + [(slope, w)] * (i > 0)
    forward = [(torch.randn(width, 300, m), torch.randn(width, n, m).mT) for m, n in layers]
    return width / (_product_seconds(step) + _product_seconds(forward) / EVALUATE)


def _product_seconds(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    ready = [(a, b, a @ b) for a, b in pairs]

    def products() -> None:
        for a, b, out in ready:
            torch.bmm(a, b, out=out)

    return median(seconds(products) for _ in range(400))


def optuna_seconds(jobs: list[Job], forms: dict[str, Any]) -> float:
    """Returns the seconds in which two worker processes, started and warm, take all trials from one study."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    context = mp.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        journal = str(Path(folder) / "journal")
        study = optuna.create_study(storage=_storage(journal), study_name="digits")
        for job in jobs:
            study.enqueue_trial({"name": job.strategy.name, "seed": job.seed})
        gate = context.Barrier(WORKERS + 1)
        workers = [context.Process(target=_work, args=(journal, forms, gate)) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        gate.wait()
        began = time.perf_counter()
        gate.wait()
        took = time.perf_counter() - began
        for worker in workers:
            worker.join()
        done = optuna.load_study(storage=_storage(journal), study_name="digits").trials
        assert sum(trial.state.is_finished() for trial in done) == len(jobs)
    return took


def _storage(journal: str) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(journal))


def _work(journal: str, forms: dict[str, Any], gate: Any) -> None:
    import optuna

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    task = load_task("digits")
    data = materialize(task)
    names = list(OPTIMIZERS)
    for name in names:
        train(task, data, name, 0, 30, EVALUATE, **forms[name])
    study = optuna.load_study(
        storage=_storage(journal), study_name="digits", sampler=optuna.samplers.RandomSampler(seed=0)
    )
    count = len(study.trials)

    def objective(trial: optuna.Trial) -> float:
        name = trial.suggest_categorical("name", names)
        seed = trial.suggest_int("seed", 0, SEEDS)
        return train(task, data, name, seed, STEPS, EVALUATE, **forms[name])

    gate.wait()
    study.optimize(objective, n_trials=count // WORKERS)
    gate.wait()


def show(found: dict[str, Any]) -> str:
    """Returns the table."""
    rates = found["trial_steps_per_second"]
    rows = [[name, rate, 1e6 / rate] for name, rate in rates.items()]
    text = table(["", "trial-steps per second", "µs per trial-step"], rows)
    whole = found["times_the_plain_loop_compile_included_in_a_default_study"]
    return f"""{text}

- The lanes are {found["times_the_plain_loop"]:.1f} times as fast as the plain loop, and {whole:.1f} times if the
  {found["compile_seconds"]:.1f} s of compilation are included in a default study.
- They are {found["times_two_workers"]:.1f} times as fast as Optuna with two workers.
- They reach {found["share_of_the_matrix_product_rate"]:.0%} of the rate of the matrix products alone.
"""
