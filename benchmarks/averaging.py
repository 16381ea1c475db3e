"""The cost of averaging the parameters, compared with torch's ``AveragedModel``, and in the engines of ``compare``.

The engines train Adam on ``digits``, with and without an exponential average that is evaluated in its place; the times
include evaluation.
"""

import time
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.measure import alternately, ratio, seconds, table
from thalweg.averaging import EMA, Average
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.job import Job
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.serial import Serial
from thalweg.compare.strategy import Strategy
from thalweg.compare.task import materialize
from thalweg.compare.task.builtin.digits import digits

ROUNDS, UPDATES = 9, 30


def measure() -> dict[str, Any]:
    """Returns microseconds an update, and seconds of the same jobs without and with an average."""
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(128, 4, 512), 8, enable_nested_tensor=False)
    models = {
        "perceptron, 6 tensors": nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)),
        "transformer, 96 tensors": encoder,
        "20 million, 10 tensors": nn.ParameterList([nn.Parameter(torch.randn(2_000_000)) for _ in range(10)]),
    }
    found: dict[str, Any] = {"updates": {}}
    for name, model in models.items():
        average = Average(model, EMA(0.999))
        peer = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
        runs = {
            "thalweg": lambda average=average: seconds(lambda: [average.update() for _ in range(UPDATES)]),
            "torch": lambda peer=peer, m=model: seconds(lambda: [peer.update_parameters(m) for _ in range(UPDATES)]),
        }
        times = alternately(runs, ROUNDS)
        found["updates"][name] = {n: sorted(t)[ROUNDS // 2] / UPDATES * 1e6 for n, t in times.items()}
        found["updates"][name]["ratio"] = ratio(times["thalweg"], times["torch"])
    task = digits()
    context = TaskContext(task, materialize(task), torch.device("cpu"))
    lanes, serial = Lanes(context, 24), Serial(context)
    engines = {"lanes": (lanes, 24), "serial": (serial, 2)}
    found["engines"] = {}
    for name, (engine, count) in engines.items():
        runs = {
            text: (lambda text=text, engine=engine, count=count: _train(engine, text, count))
            for text in ("adam", "adam+ema")
        }
        for run in runs.values():
            run()
        found["engines"][name] = alternately(runs, ROUNDS)
    return found


def _train(engine: Lanes | Serial, name: str, count: int) -> float:
    strategy = Strategy.parse(name)
    hyper = strategy.default_configuration()
    jobs = [Job(f"{name}/{seed}", strategy, hyper, seed, 0, 300, 300, 25, True) for seed in range(count)]
    began = time.perf_counter()
    engine.run(jobs, lambda _: None)
    return time.perf_counter() - began


def show(found: dict[str, Any]) -> str:
    """Returns the tables."""
    rows = [[name, one["thalweg"], one["torch"], one["ratio"]] for name, one in found["updates"].items()]
    first = table(["model", "thalweg (µs)", "AveragedModel (µs)", "ratio"], rows)
    costs = [[name, 100 * (ratio(one["adam+ema"], one["adam"]) - 1)] for name, one in found["engines"].items()]
    second = table(["engine", "cost of the average (%), goal: under 5"], costs)
    return f"{first}\n\n{second}"
