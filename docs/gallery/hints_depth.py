"""Teacher and student, with and without hints, as the student grows deeper."""

from statistics import mean

from matplotlib.figure import Figure
from torch import nn

from benchmarks.pairs import mean_interval, paired_difference
from docs.gallery.guided import Student, best_rate, jointly, taught, tested

DEPTHS, STEPS, HINTS, RATES, TUNING = (3, 6, 10, 14), 300, 100, (0.001, 0.003, 0.01), (100, 101)
WAYS = {
    "alone": (jointly(STEPS), "0.4", "s"),
    "its answers": (taught(0, STEPS), "#56B4E9", "o"),
    "hints, then its answers": (taught(HINTS, STEPS - HINTS), "#0072B2", "D"),
    "hints, then alone": (taught(HINTS, STEPS - HINTS, weight=(0.0, 0.0)), "#009E73", "^"),
}


def draw() -> Figure:
    """Returns each way's test accuracy over the depth, and what it is worth beside the student alone."""
    figure = Figure(figsize=(9, 3.4))
    left, right = figure.subplots(1, 2)
    found: dict[str, list[list[float]]] = {name: [] for name in WAYS}
    for depth in DEPTHS:
        student = Student(nn.Tanh, depth, "default", RATES)
        print(f"{depth} hidden layers:")
        for name, (way, _, _) in WAYS.items():
            rate = best_rate(student, way, TUNING)
            found[name].append(tested(student, way, rate))
            gain = paired_difference(found[name][-1], found["alone"][-1])
            print(f"  {name}, lr {rate}: {mean(found[name][-1]):.3f}", end="")
            print("" if name == "alone" else f", {gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})", flush=True)
    for i, (name, (_, colour, marker)) in enumerate(WAYS.items()):
        x = [depth + 0.25 * (i - 1.5) for depth in DEPTHS]
        for axis, values in (
            (left, [mean_interval(one, (0.0, 1.0)) for one in found[name]]),
            (right, [paired_difference(a, b) for a, b in zip(found[name], found["alone"], strict=True)]),
        ):
            if axis is right and name == "alone":
                continue
            arms = [[v.mean - v.low for v in values], [v.high - v.mean for v in values]]
            means = [v.mean for v in values]
            axis.errorbar(x, means, arms, color=colour, marker=marker, markersize=3, lw=1, label=name)
    right.axhline(0, color="0.3", lw=0.8)
    left.set(xlabel="hidden layers of the student", ylabel="test accuracy", ylim=(0, 1), xticks=DEPTHS)
    right.set(xlabel="hidden layers of the student", ylabel="test accuracy − that of alone", xticks=DEPTHS)
    left.legend(fontsize=7, loc="lower left")
    return figure
