"""Curriculum: the cost of the sampler over 10 million examples, and the benefit of an order on a deep model.

The model is ``digits-deep`` from Glorot's normal weights with gain 4, trained by Adam, with five ways to draw
minibatches, each at the best of four learning rates by validation accuracy (3 seeds), then with 10 fresh seeds on the
test set. The difficulty of an example is its loss under a teacher of the same kind, which was trained on all examples,
noisy ones too; its steps are not counted. A fifth of the examples of each class is available at first, and all after
seven tenths of the steps. Differences are paired by seed, with Student's 95 % intervals, which are not corrected for
multiple comparisons: of sixteen, one is expected to miss by chance. Without any effect, all ten seeds would agree in
about one of thirty such tables. Each way has one learning rate for all its seeds, so none of this includes the luck of
tuning.
"""

from itertools import islice
from typing import Any

import torch

from benchmarks.measure import alternately, seconds, table
from docs.gallery.curriculum_order import NOISE, SEEDS, WAYS, Setting, gain, study
from thalweg.curriculum import CurriculumSampler, Pacing

EXAMPLES, DRAWN, ROUNDS, BUDGETS = 10_000_000, 1_000_000, 5, (300, 1000)
DEEP = Setting("digits-deep", torch.optim.Adam, (0.001, 0.003, 0.01, 0.03), teacher_steps=300, scheme="glorot-normal")


def measure() -> dict[str, Any]:
    """Returns seconds to set up and to draw, and the test accuracies of each noise, budget and way."""
    draws = torch.Generator().manual_seed(0)
    kinds = {
        "float32": torch.rand(EXAMPLES, generator=draws),
        "float64": torch.rand(EXAMPLES, generator=draws, dtype=torch.float64),
        "integers to 100": torch.randint(100, (EXAMPLES,), generator=draws),
    }
    pacing = Pacing("root", start=0.01, over=10**5)

    def set_up(kind: str, mixture: float = 0.0) -> CurriculumSampler:
        return CurriculumSampler(kinds[kind], pacing, batch_size=64, mixture=mixture)

    def take(sampler: Any) -> None:
        for _ in islice(sampler, DRAWN):
            pass

    setting_up = alternately({kind: lambda kind=kind: seconds(lambda: set_up(kind)) for kind in kinds}, ROUNDS)
    samplers = {"hard cut-off": set_up("float32"), "mixture": set_up("float32", mixture=0.2)}
    drawing = alternately({n: lambda s=s: seconds(lambda: take(s)) for n, s in samplers.items()}, ROUNDS)
    return {
        "setting up": setting_up,
        "drawing": drawing,
        "accuracies": {str(noise): study(DEEP, noise, BUDGETS) for noise in NOISE},
    }


def show(found: dict[str, Any]) -> str:
    """Returns the tables."""
    times = [[f"set up, {kind}, s", sorted(s)[ROUNDS // 2], "1"] for kind, s in found["setting up"].items()]
    times += [
        [f"an index, {way}, µs", sorted(s)[ROUNDS // 2] / DRAWN * 1e6, "2"] for way, s in found["drawing"].items()
    ]
    return f"{table(['what', 'measured', 'goal: under'], times)}\n\n{orders(found['accuracies'])}"


def orders(accuracies: dict[str, dict[Any, dict[str, list[float]]]]) -> str:
    """Returns the table of what each way is worth, by the share of wrong labels and the number of steps."""
    rows = []
    for noise, budgets in accuracies.items():
        for budget, ways in budgets.items():
            for way in WAYS:
                g = gain(ways, way)
                won = sum(a > b for a, b in zip(ways[way], ways["all at once"], strict=True))
                over = [f"{g.mean:+.3f} ({g.low:+.3f} to {g.high:+.3f})", f"{won} of {SEEDS}"]
                told = ["", ""] if way == "all at once" else over
                rows.append([f"{float(noise):.0%}", budget, way, sum(ways[way]) / SEEDS, *told])
    head = ["wrong labels", "steps", "order", "test accuracy", "difference from all at once", "seeds won"]
    return table(head, rows)
