"""The chapter's optimizers on handwritten digits: a whole study of thalweg compare."""

import tempfile

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

import thalweg
from thalweg.compare.report.traces import palette

STRATEGIES = ("sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam")


def draw() -> Figure:
    """Returns learning curves and test accuracies of the tuned strategies."""
    with tempfile.TemporaryDirectory() as folder:
        done = thalweg.compare("digits", STRATEGIES, out=f"{folder}/study")
    strategies = done.results["strategies"]
    colours = palette([s["name"] for s in strategies])
    figure = Figure(figsize=(9, 3.8))
    left, right = figure.subplots(1, 2)
    for place, s in enumerate(reversed(strategies)):
        curve, colour, test = s["curves"], colours[s["name"]], s["test"]
        left.plot(curve["step"], curve["train_loss"]["median"], color=colour, label=s["name"], lw=1.5)
        right.errorbar(
            test["typical"],
            place,
            xerr=[[test["typical"] - test["low"]], [test["high"] - test["typical"]]],
            fmt="o",
            color=colour,
            capsize=3,
        )
        right.plot(test["per_seed"], [place] * len(test["per_seed"]), "|", color=colour, alpha=0.5)
    left.set(xscale="log", yscale="log", xlabel="gradient evaluations", ylabel="training loss, median of 10 runs")
    left.xaxis.set_major_formatter("{x:.0f}")
    left.xaxis.set_minor_formatter(NullFormatter())
    left.set_xticks([10, 20, 50, 100, 150])
    handles, labels = left.get_legend_handles_labels()
    left.legend(handles[::-1], labels[::-1], fontsize=8)
    best = max(s["test"]["typical"] for s in strategies)
    right.set(
        yticks=range(len(strategies)), xlabel="test accuracy: runs, typical and 95 % interval", xlim=(best - 0.03, 1)
    )
    right.set_yticklabels([s["name"] for s in reversed(strategies)])
    for row in done.rows():
        print("  ".join(row.values()))
    print(done.verdict)
    return figure
