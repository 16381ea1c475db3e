"""Thin deep students of handwritten digits and the ways to train them, for the pages and the benchmark of §8.7.4."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from thalweg.compare.task import Examples, materialize
from thalweg.compare.task.loading import load_task
from thalweg.initialization import initialize
from thalweg.pretraining import HintTraining, greedy
from thalweg.stages import Batches, Measures, Plan, Stage, supervised
from thalweg.tensors import generator
from thalweg.training import History, train

WIDTH, BATCH, TEACHER = 32, 64, 300  # units a layer, examples a batch, steps of the teacher
TUNING, SEEDS = range(100, 103), range(10)


@cache
def digits() -> Examples:
    """Returns the data of ``digits`` in double precision, so that threads do not matter."""
    return materialize(load_task("digits")).map(lambda t: t.double() if t.is_floating_point() else t)


@dataclass(frozen=True)
class Student:
    """A thin deep model, how it starts, and what it is trained on; ten sigmoid layers are those of ``digits-deep``."""

    unit: type[nn.Module]
    depth: int
    scheme: str
    rates: tuple[float, ...]
    images: int = 1000

    def build(self, seed: int) -> nn.Sequential:
        """Returns the untrained model."""
        layers: list[nn.Module] = []
        for width in [64] + [WIDTH] * (self.depth - 1):
            layers += [nn.Linear(width, WIDTH), self.unit()]
        model = nn.Sequential(*layers, nn.Linear(WIDTH, 10)).double()
        gain = None if self.scheme == "default" else "nonlinearity"
        initialize(model, self.scheme, generator(seed, "weights"), gain=gain)
        return model

    def stage(self, steps: int, rate: float, seed: int, every: int | None = None) -> Stage:
        """Returns the stage that trains a model alone, looked at on the test set every so many steps."""
        x, y = digits().train.input[: self.images], digits().train.target[: self.images]
        measure = Measures([digits().test.held], "test_", accuracy=accuracy)
        return Stage(
            objective=supervised(cross_entropy),
            data=Batches(x, y, batch_size=BATCH, seed=seed),
            optimizer=partial(torch.optim.Adam, lr=rate, fused=True),
            steps=steps,
            name="joint",
            evaluate_every=every or steps,
            validate=measure if every else None,
        )


Trained = tuple[nn.Module, History]
Way = Callable[[Student, float, int], Trained]  # (student, learning rate, seed)


def jointly(steps: int, every: int | None = None) -> Way:
    """Returns the way that trains all layers at once, from the targets alone."""

    def way(student: Student, rate: float, seed: int) -> Trained:
        model = student.build(seed)
        return _run(model, Plan(model, [student.stage(steps, rate, seed, every)]), seed)

    return way


def greedily(pretraining: int, steps: int, every: int | None = None) -> Way:
    """Returns the way that trains hidden layers in turn, in so many steps together, and then all in ``steps``."""

    def way(student: Student, rate: float, seed: int) -> Trained:
        model, joint = student.build(seed), student.stage(steps, rate, seed, every)
        return _run(model, greedy(model, joint, pretraining // student.depth, generator=generator(seed, "heads")), seed)

    return way


def taught(hints: int, steps: int, weight: tuple[float, float] = (4.0, 1.0)) -> Way:
    """Returns the way of a teacher: so many steps of hints to the middle layer, then ``steps`` with its answers."""

    def way(student: Student, rate: float, seed: int) -> Trained:
        model, middle = student.build(seed), 2 * (student.depth // 2) - 1
        hinting = HintTraining(
            teacher(student.unit, seed),
            model,
            hint="3",
            guided=str(middle),
            weight=weight,
            generator=generator(seed, "regressor"),
        )
        return _run(model, hinting.plan(student.stage(steps, rate, seed), hints), seed)

    return way


@cache
def teacher(unit: type[nn.Module], seed: int) -> nn.Module:
    """Returns a trained shallow and wide model, 64-256-256-10; its second hidden layer, ``"3"``, is the hint."""
    model = nn.Sequential(nn.Linear(64, 256), unit(), nn.Linear(256, 256), unit(), nn.Linear(256, 10)).double()
    initialize(model, "glorot-normal", generator(seed, "teacher"), gain="nonlinearity")
    stage = Student(unit, 2, "glorot-normal", ()).stage(TEACHER, 0.003, seed + 1000)
    return _run(model, Plan(model, [stage]), seed)[0]


def _run(model: nn.Module, plan: Plan, seed: int) -> Trained:
    return model, train(plan.model, plan.stages, seed=seed)


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Returns the share of examples whose largest output is the target's."""
    return (output.argmax(dim=1) == target).double().mean()


def best_rate(student: Student, way: Way, tuning: Sequence[int] = TUNING) -> float:
    """Returns the learning rate of the student's that is best in mean validation accuracy."""
    x, y = digits().valid.input, digits().valid.target
    found = [sum(accuracy(way(student, r, seed)[0](x), y).item() for seed in tuning) for r in student.rates]
    return student.rates[found.index(max(found))]


def tested(student: Student, way: Way, rate: float) -> list[float]:
    """Returns the test accuracies of fresh seeds."""
    x, y = digits().test.input, digits().test.target
    return [accuracy(way(student, rate, seed)[0](x), y).item() for seed in SEEDS]
