"""Guided training: the benefit of hints, of a teacher's outputs, of layer-by-layer training and of the examples' order.

The students are thin deep networks for handwritten digits, with layers of 32 units, trained by Adam on minibatches of
64; ten sigmoid layers are ``digits-deep``. A poor start is torch's default initialization, and a good start is Glorot's
normal scheme with the gain of the units. Every method has 900 gradient evaluations, each of one minibatch, whatever a
stage trains. The teacher, a 64-256-256-10 network of the same units and a different one for each seed, is charged 300
of them. So that its cost is visible, the student alone is trained for 900 evaluations, and also for the 600 that the
teacher leaves. Hints take 200 steps, from the teacher's second layer to the student's middle one; then follow 400 steps
with the labels and the teacher's outputs ("answers", with temperature τ = 3 and weight λ from 4 to 1), or with the
labels alone. "Layers in turn" is greedy pretraining: 600 steps in total for the single layers, then 300 for all of
them. Each method uses the best of three learning rates by validation accuracy (3 seeds), then 10 fresh seeds on the
test set. Differences are paired by seed. Their 95 % intervals are Student's, and p is that of the exact signed-rank
test, two-sided. Neither is corrected for multiple comparisons: of forty-two intervals, two are expected to miss by
chance. Without any effect, all ten seeds would agree in fewer than one of ten such tables. Each method has one learning
rate for all its seeds, so none of this includes the luck of tuning.

The orders of examples are those of the curriculum benchmark below, on MNIST if its data are present (``THALWEG_DATA``
names their folder): the 784-128-128-10 rectifier network, SGD, and difficulty by a teacher of the same kind, whose 250
training steps are not counted.
"""

import os
from statistics import mean
from typing import Any

import torch
from torch import nn

from benchmarks.curriculum import orders
from benchmarks.measure import table
from benchmarks.pairs import mean_interval, paired_difference
from docs.gallery.curriculum_order import NOISE, Setting, study
from docs.gallery.guided import TEACHER, Student, best_rate, greedily, jointly, taught, tested
from thalweg.compare.statistics import signed_rank

HINTS, ANSWERS, LABELS = 200, 400, (0.0, 0.0)  # steps of both stages; a weight that leaves the answers out
STUDENT, BLOCKS = HINTS + ANSWERS, 600
TOTAL = TEACHER + STUDENT
SIGMOID, TANH = (0.003, 0.01, 0.03), (0.001, 0.003, 0.01)
STUDENTS = {
    "ten sigmoid layers, poor start": Student(nn.Sigmoid, 10, "default", SIGMOID),
    "ten sigmoid layers, good start": Student(nn.Sigmoid, 10, "glorot-normal", SIGMOID),
    "ten tanh layers, poor start": Student(nn.Tanh, 10, "default", TANH),
    "ten tanh layers, good start": Student(nn.Tanh, 10, "glorot-normal", TANH),
    "twenty tanh layers, poor start": Student(nn.Tanh, 20, "default", TANH),
    "twenty tanh layers, good start": Student(nn.Tanh, 20, "glorot-normal", TANH),
    "ten tanh layers, good start, 100 of the 1,000 images": Student(nn.Tanh, 10, "glorot-normal", TANH, images=100),
}
WAYS = {  # with the evaluations of the student, and of its teacher
    "alone": (jointly(TOTAL), TOTAL, 0),
    "alone, less the teacher's": (jointly(STUDENT), STUDENT, 0),
    "answers": (taught(0, STUDENT), STUDENT, TEACHER),
    "hints, then answers": (taught(HINTS, ANSWERS), STUDENT, TEACHER),
    "hints, then labels": (taught(HINTS, ANSWERS, LABELS), STUDENT, TEACHER),
    "layers in turn": (greedily(BLOCKS, TOTAL - BLOCKS), TOTAL, 0),
}
PAIRS = [
    ("hints, then answers", "answers"),
    ("hints, then answers", "alone, less the teacher's"),
    ("hints, then answers", "alone"),
    ("hints, then labels", "alone, less the teacher's"),
    ("hints, then labels", "alone"),
    ("layers in turn", "alone"),
]
MNIST = Setting("mnist", torch.optim.SGD, (0.15, 0.5, 1.5), teacher_steps=250)
BUDGETS = (200, 800)


def measure() -> dict[str, Any]:
    """Returns each student's and way's learning rate and test accuracies, and those of the orders of examples."""
    found: dict[str, Any] = {"students": {}, "orders": {}}
    for text, student in STUDENTS.items():
        found["students"][text] = {}
        for name, (way, _, _) in WAYS.items():
            rate = best_rate(student, way)
            accuracies = tested(student, way, rate)
            found["students"][text][name] = {"rate": rate, "accuracies": accuracies}
            print(f"{text}, {name}: {mean(accuracies):.3f} at lr {rate}", flush=True)
    if os.environ.get("THALWEG_DATA"):
        found["orders"] = {str(noise): study(MNIST, noise, BUDGETS) for noise in NOISE}
    return found


def show(found: dict[str, Any]) -> str:
    """Returns a table of the ways, one of their differences, and one of the orders of examples."""
    rows, differences = [], []
    for text, ways in found["students"].items():
        for name, one in ways.items():
            at = mean_interval(one["accuracies"], (0.0, 1.0))
            _, own, teacher = WAYS[name]
            rows.append([text, name, own, teacher, one["rate"], f"{at.mean:.3f}", f"{at.low:.3f} to {at.high:.3f}"])
        for a, b in PAIRS:
            one, two = ways[a]["accuracies"], ways[b]["accuracies"]
            d, gains = paired_difference(one, two), [x - y for x, y in zip(one, two, strict=True)]
            over = f"{d.mean:+.3f} ({d.low:+.3f} to {d.high:+.3f})"
            p = min(1.0, 2 * min(signed_rank(gains), signed_rank([-g for g in gains])))
            differences.append([text, a, b, over, f"{sum(g > 0 for g in gains)} of {len(gains)}", f"{p:.2g}"])
    parts = [
        table(
            [
                "student",
                "method",
                "evaluations",
                "teacher's evaluations",
                "learning rate",
                "test accuracy",
                "95 % interval",
            ],
            rows,
        ),
        table(["student", "method", "compared with", "difference", "seeds won", "p"], differences),
    ]
    if found["orders"]:
        parts += ["The order of examples on MNIST:", orders(found["orders"])]
    return "\n\n".join(parts)
