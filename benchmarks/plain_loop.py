"""The peer: the loop that everyone writes, as fast as PyTorch's own settings make it."""

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch

from thalweg.compare.task import Examples, Task, build_model

OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.05}),
    "momentum": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}),
    "nesterov": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    "adagrad": (torch.optim.Adagrad, {"lr": 0.01}),
    "adadelta": (torch.optim.Adadelta, {"lr": 1.0}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.001}),
    "adam": (torch.optim.Adam, {"lr": 0.001}),
}  # the rules that torch has too, at rates at which nothing diverges


def train(task: Task, data: Examples, name: str, seed: int, steps: int, evaluate_every: int, **setting: Any) -> float:
    """Trains one model, evaluating it as often as thalweg does, and returns its validation metric."""
    torch.manual_seed(seed)
    model = build_model(task)
    make, options = OPTIMIZERS[name]
    optimizer = make([p for p in model.parameters() if p.requires_grad], **options, **setting)
    order = torch.empty(0, dtype=torch.long)
    score = torch.tensor(0.0)
    for step in range(1, steps + 1):
        if len(order) < task.batch_size:
            order = torch.randperm(len(data.train))
        rows, order = order[: task.batch_size], order[task.batch_size :]
        optimizer.zero_grad()
        loss = task.loss(model(data.train.input[rows]), data.train.target[rows])
        loss.backward()
        optimizer.step()
        if step % evaluate_every == 0 or step == steps:
            with torch.no_grad():
                score = task.score(model(data.valid.input), data.valid.target)
    return float(score)


def best_setting(task: Task, data: Examples, steps: int, names: Sequence[str]) -> dict[str, Any]:
    """Returns the fastest threads for the task, and the fastest of torch.optim's forms for each optimizer.

    Measured alternately, three rounds each; leaves torch at that number of threads.
    """
    most = torch.get_num_threads()
    threads = min(
        range(1, most + 1), key=lambda n: _seconds(task, data, names[0], steps, n, {"foreach": True, "fused": False})
    )
    forms: dict[str, dict[str, bool]] = {}
    for name in names:
        times: dict[str, list[float]] = {}
        candidates = _forms(name)
        for _ in range(3):
            for label, form in candidates.items():
                times.setdefault(label, []).append(_seconds(task, data, name, steps, threads, form))
        forms[name] = candidates[min(times, key=lambda label: median(times[label]))]
    torch.set_num_threads(threads)
    return {"threads": threads, "forms": forms}


def _forms(name: str) -> dict[str, dict[str, bool]]:
    forms = {"loop": {"foreach": False}, "foreach": {"foreach": True}}
    if name in ("sgd", "momentum", "nesterov", "adagrad", "adam"):
        forms["fused"] = {"fused": True}
    return forms


def _seconds(task: Task, data: Examples, name: str, steps: int, threads: int, form: dict[str, bool]) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    form = {k: v for k, v in form.items() if k == "foreach" or v}
    began = time.perf_counter()
    train(task, data, name, 0, steps, steps, **form)
    torch.set_num_threads(before)
    return time.perf_counter() - began
