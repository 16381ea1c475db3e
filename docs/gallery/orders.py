"""First- and second-order methods on logistic regression of real data, by evaluations and by seconds."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from thalweg import optim
from thalweg.compare.report.traces import COLOURS
from thalweg.compare.task import materialize
from thalweg.compare.task.loading import load_task
from thalweg.second_order import (
    BFGS,
    LBFGS,
    ConjugateGradient,
    Direction,
    FunctionObjective,
    Limits,
    Place,
    descend,
    minimize,
    search_for,
    truncated_newton,
)
from thalweg.second_order.progress import Callback

TASKS = {"breast-cancer": 341, "digits": 1000, "mnist": 2000}  # and how many training examples, the first ones
PRODUCT = 2  # what a Hessian product costs, in evaluations of value and gradient
PENALTY = 1e-4  # of ½ ‖θ‖²: with it there is one minimum
BUDGET = 500  # evaluations
LARGEST_BFGS = 1000  # parameters: 7,850 would take 0.5 GB and two passes over it a step
CLOSE = 1e-6  # f − f* at which a run is printed
ORDER = (4, 1, 3, 2, 0, 9, 5)  # of the colours

F = Callable[[Tensor], Tensor]
Make = Callable[[Tensor], torch.optim.Optimizer]
Drive = Callable[[FunctionObjective, Tensor, Limits, Callback], object]


class Trace(NamedTuple):
    """A run: evaluations, seconds of one core and f, from the start on."""

    evaluations: list[int]
    seconds: list[float]
    values: list[float]


def first_order() -> dict[str, dict[str, Make]]:
    """Returns what is tried of each method: four rates, about a factor of three apart."""
    rates = 1.0, 3.0, 10.0, 30.0
    return {
        "gradient descent": {f"{lr:g}": _sgd(lr, 0.0) for lr in rates},
        "momentum 0.9": {f"{lr:g}": _sgd(lr, 0.9) for lr in rates},
        "Adam": {f"{lr / 10:g}": _adam(lr / 10) for lr in rates},
    }


def second_order(size: int) -> dict[str, Drive]:
    """Returns the methods that fit; none is tuned."""
    methods: dict[str, Drive] = {
        "conjugate gradients": _along(ConjugateGradient),
        "L-BFGS": _along(LBFGS),
        "BFGS": _along(BFGS),
        "truncated Newton": truncated_newton,
    }
    return methods if size <= LARGEST_BFGS else {name: m for name, m in methods.items() if name != "BFGS"}


def draw() -> Figure:
    """Returns f − f* against evaluations and against seconds, a column a task."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that the thread's own time is all there is, whatever else the machine does
    try:
        return _draw()
    finally:
        torch.set_num_threads(threads)


def _draw() -> Figure:
    names = [*first_order(), *second_order(0)]
    looks = {name: (COLOURS[i], "--" if name in first_order() else "-") for name, i in zip(names, ORDER, strict=True)}
    figure = Figure(figsize=(11, 6.4))
    rows = figure.subplots(2, len(TASKS))
    for (upper, lower), (name, count) in zip(rows.T, TASKS.items(), strict=True):
        f, size = regression(name, count)
        least = _least(f, size)
        print(f"{name}: {count} examples, {size:,} parameters, f* = {least:.6f}")
        for method, trace in _traces(f, size, least).items():
            heights = [value - least for value in trace.values]
            for axes, along in ((upper, trace.evaluations), (lower, trace.seconds)):
                colour, style = looks[method]
                axes.plot(along, heights, style, color=colour, lw=1.3, label=method)
            end = next((i for i, height in enumerate(heights) if height <= CLOSE), len(heights) - 1)
            where = f"reaches {CLOSE:.0e}" if heights[end] <= CLOSE else f"is at {heights[end]:.1e}"
            print(f"  {method}: {where} after {trace.evaluations[end]} evaluations, {trace.seconds[end]:.2f} s")
        upper.set(title=f"{name}, {size:,} parameters", xlabel=f"evaluations (a Hessian product counts {PRODUCT})")
        lower.set(xlabel="seconds of one core")
    for axes in rows.flat:
        axes.set(ylabel="f − f*", xscale="log", yscale="log", ylim=(1e-11, 10))
    handles, labels = rows[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9)
    return figure


def _traces(f: F, size: int, least: float) -> dict[str, Trace]:
    """Returns a run of each method, of the first order the best one."""
    start, found = torch.zeros(size, dtype=torch.float64), {}
    for method, tried in first_order().items():
        runs = {label: _stepwise(f, start, make) for label, make in tried.items()}
        best = min(runs, key=lambda label: runs[label].values[-1])
        print(f"  {method}: lr {best} is the best of {', '.join(tried)}")
        found[method] = runs[best]
    for method, drive in second_order(size).items():
        found[method] = _driven(f, start, drive, least)
    return found


def regression(name: str, count: int) -> tuple[F, int]:
    """Returns f and its number of parameters: cross-entropy of a linear model with a penalty, on the full batch."""
    data = materialize(load_task(name))
    x, y = (
        pad(data.train.input[:count].double(), (0, 1), value=1.0),
        data.train.target[:count],
    )  # a column of ones: the bias
    classes = int(data.train.target.max()) + 1

    def f(theta: Tensor) -> Tensor:
        return cross_entropy(x @ theta.view(-1, classes), y) + 0.5 * PENALTY * theta @ theta

    return f, x.shape[1] * classes


def _stepwise(f: F, start: Tensor, make: Make) -> Trace:
    """Runs an optimizer; a step is one evaluation."""
    theta, objective = start.clone().requires_grad_(), FunctionObjective(f)
    optimizer = make(theta)
    trace, began = Trace([], [], []), time.thread_time()
    while objective.evaluations < BUDGET:
        found = objective.evaluate(theta)
        _add(trace, objective, began, found.value.item())
        theta.grad = found.gradient
        optimizer.step()
    return trace


def _driven(f: F, start: Tensor, drive: Drive, least: float) -> Trace:
    """Runs a second-order method."""
    objective = FunctionObjective(f)
    trace, began = Trace([1], [], [f(start).item()]), time.thread_time()
    trace.seconds.append(0.0)

    def note(place: Place) -> bool:
        _add(trace, objective, began, place.value)
        return trace.evaluations[-1] >= BUDGET or place.value - least < 1e-12

    drive(objective, start, Limits(0.0), note)
    return trace


def _add(trace: Trace, objective: FunctionObjective, began: float, value: float) -> None:
    trace.evaluations.append(objective.evaluations + PRODUCT * objective.products)
    trace.seconds.append(time.thread_time() - began)
    trace.values.append(value)


def _least(f: F, size: int) -> float:
    """Returns f*."""
    start = torch.zeros(size, dtype=torch.float64)
    # ‖∇f‖² / 2 PENALTY bounds f − f*.
    return minimize(f, start, gtol=1e-9).fun


def _along(make: type[Direction]) -> Drive:
    """Returns the driver that goes along the directions, with the line search that suits them."""

    def drive(objective: FunctionObjective, x: Tensor, limits: Limits, note: Callback) -> None:
        direction = make()
        direction.prepare(x)
        search = search_for("more-thuente", x.dtype, loose=make is not ConjugateGradient)
        descend(objective, x, direction, search, limits, note)

    return drive


def _sgd(lr: float, momentum: float) -> Make:
    return lambda theta: optim.SGD([theta], lr=lr, momentum=momentum)


def _adam(lr: float) -> Make:
    return lambda theta: optim.Adam([theta], lr=lr)
