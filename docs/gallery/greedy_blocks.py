"""Each hidden layer in turn and the fine-tuning after it, beside all layers at once for as long."""

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.pairs import mean_interval, paired_difference
from docs.gallery.guided import SEEDS, Student, Way, best_rate, greedily, jointly
from thalweg.compare.report.traces import COLOURS
from thalweg.training import History

BLOCKS, JOINT, EVERY, RATES = 600, 300, 15, (0.003, 0.01, 0.03)
STARTS = {"default": "a poor start: torch's own", "glorot-normal": "a good start: Glorot's"}
WAYS = {
    "layer after layer, then all": greedily(BLOCKS, JOINT, EVERY),
    "all layers at once": jointly(BLOCKS + JOINT, EVERY),
}


def draw() -> Figure:
    """Returns the test accuracy along the stages, from a poor and from a good start: means of ten seeds, intervals."""
    figure = Figure(figsize=(9, 3.4))
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (scheme, title) in zip(axes, STARTS.items(), strict=True):
        student = Student(nn.Sigmoid, 10, scheme, RATES)
        ends = [_curve(axis, student, name, COLOURS[i]) for i, name in enumerate(WAYS)]
        gain = paired_difference(*ends)
        print(f"{title}: layer after layer is better by {gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})")
        for k in range(student.depth):
            axis.axvline(BLOCKS * (k + 1) / student.depth, color="0.8", lw=0.6, zorder=0)
            axis.text(BLOCKS * (k + 0.5) / student.depth, 1.01, str(k + 1), ha="center", fontsize=7, color="0.4")
        axis.text(BLOCKS + JOINT / 2, 1.01, "all", ha="center", fontsize=7, color="0.4")
        axis.set(xlabel="gradient evaluations (minibatches of 64)", ylim=(0, 1), xlim=(0, BLOCKS + JOINT))
        axis.set_title(title, pad=14)
        axis.grid(axis="x", visible=False)
    axes[0].set_ylabel("test accuracy")
    axes[0].legend(fontsize=7, loc="center left")
    return figure


def _curve(axis: Axes, student: Student, name: str, colour: str) -> list[float]:
    """Draws a way's accuracies, each stage's with its own head, and returns those at the end."""
    way: Way = WAYS[name]
    rate = best_rate(student, way)
    runs = [_points(way(student, rate, seed)[1]) for seed in SEEDS]
    x, rows = runs[0][0], torch.stack([y for _, y in runs])
    bands = [mean_interval(column, (0.0, 1.0)) for column in rows.T.tolist()]
    axis.plot(x, [b.mean for b in bands], color=colour, lw=1.2, label=name)
    axis.fill_between(x, [b.low for b in bands], [b.high for b in bands], color=colour, alpha=0.2, lw=0)
    print(f"  {name}, lr {rate}: {bands[-1].mean:.3f} ({bands[-1].low:.3f} to {bands[-1].high:.3f})", flush=True)
    return rows[:, -1].tolist()


def _points(history: History) -> tuple[list[int], Tensor]:
    """Returns the evaluations so far and the accuracy at each row."""
    x, before, stage = [], 0, None
    for row in history:
        if stage is not None and row["stage"] != stage:
            before = x[-1]
        stage = row["stage"]
        x.append(before + row["step"])
    return x, torch.tensor(history.column("test_accuracy"))
