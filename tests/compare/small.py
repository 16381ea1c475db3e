"""A small task that trains in moments, and what the tests of compare share."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from thalweg import Task
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.job import Job
from thalweg.compare.strategy import Strategy
from thalweg.compare.task import materialize


def parts(dtype=torch.float32, classes=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(180, 6, generator=generator, dtype=dtype)
    y = (x[:, :classes] + 0.3 * torch.randn(180, classes, generator=generator, dtype=dtype)).argmax(dim=1)
    return [TensorDataset(x[a:b], y[a:b]) for a, b in ((0, 100), (100, 140), (140, 180))]


def small_task(dtype=torch.float32, model=None, **options):
    def build():
        return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3)).to(dtype)

    settings = {"batch_size": 20, "name": "small", "steps": 30, **options}
    return Task(model or build, *parts(dtype), nn.functional.cross_entropy, **settings)


def task_context(task=None):
    task = task or small_task()
    return TaskContext(task, materialize(task), torch.device("cpu"))


def job(name, lr=None, seed=1, stop=30, key=None, **options):
    strategy = name if isinstance(name, Strategy) else Strategy.parse(name)
    hyper = {**strategy.defaults, **({} if lr is None else {"lr": lr})}
    settings = {"start": 0, "total": 30, "evaluate_every": 7, **options}
    return Job(
        key or f"{strategy.name}/{lr}/{seed}",
        strategy,
        hyper,
        seed,
        settings["start"],
        stop,
        settings["total"],
        settings["evaluate_every"],
        settings.get("test", True),
        settings.get("snapshot"),
        settings.get("first_loss"),
        limit=settings.get("limit"),
    )
