"""Is a change real? How often `thalweg gate` is wrong and what it finds, on simulated noise and on banks of real runs.

A change that does nothing gives two recipes whose runs differ by their seeds alone: that it is called better or worse
is an error. A planted gain is 3.5 standard errors of the fixed design, the mean difference of ten pairs; a method
accepts it where it says better, and its runs are counted up to that or to a cap of ten pairs. In the banks of the
verdict's benchmark a recipe is a strategy at its best learning rate. There two sides are the same recipe under other
seeds, or the neighbouring learning rate under the same seeds, whose mean difference is set.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from benchmarks.bank import TASKS, read
from benchmarks.measure import table
from thalweg.compare.gate.judgement import judge
from thalweg.compare.gate.runs import Run
from thalweg.compare.sequential import FLAT, LEAST, LOWER, UPPER, difference

GATES = 4000  # of each kind of noise
REAL = 500  # of each bank
CAP, LONG = 10, 40  # pairs
PLANTED = 3.5 / math.sqrt(CAP)  # standard deviations of a difference
PAIRED_LEVELS = (0.0086, 0.0013)  # of one look, with which those of paired differences alone come to 4 and 1 %

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Said = tuple[Mask, Mask]  # better, worse: gates × pairs
Noise = Callable[[np.random.Generator, tuple[int, int]], tuple[Array, Array, float]]  # both sides, and their step


def measure(gates: int = GATES, real: int = REAL) -> dict[str, Any]:
    """Returns the rates."""
    methods, noises = {}, {}
    for name, method in METHODS.items():
        methods[name] = {at: _rates(method, NOISES[at], gates) for at in ("normal", "normal, correlation 0.9")}
        print(name, methods[name], flush=True)
    for name, noise in NOISES.items():
        noises[name] = _rates(adopted, noise, gates)
        print(name, noises[name], flush=True)
    equal = {name: _equal(noise, gates) for name, noise in EQUAL.items()}
    banks = {}
    for name in TASKS:
        if name != "digits-deep":  # which nothing trains
            banks[name] = _bank(name, real)
            print(name, banks[name], flush=True)
    return {
        "gates": gates,
        "real": real,
        "methods": methods,
        "noises": noises,
        "failures": _failures(),
        "equal": equal,
        "banks": banks,
    }


def _normal(correlation: float) -> Noise:
    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array, float]:
        shared = math.sqrt(correlation) * rng.standard_normal(shape)
        own = [shared + math.sqrt(1 - correlation) * rng.standard_normal(shape) for _ in range(2)]
        return own[0], own[1], 0.0

    return draw


def _alike(draw: Callable[[np.random.Generator, tuple[int, int]], Any], step: float = 0.0) -> Noise:
    return lambda rng, shape: (np.asarray(draw(rng, shape), float), np.asarray(draw(rng, shape), float), step)


NOISES: dict[str, Noise] = {
    "normal": _normal(0.0),
    "normal, correlation 0.2": _normal(0.2),
    "normal, correlation 0.5": _normal(0.5),
    "normal, correlation 0.9": _normal(0.9),
    "normal, correlation 0.99": _normal(0.99),
    "uniform": _alike(lambda rng, shape: rng.random(shape)),
    "most at the two ends (arcsine)": _alike(lambda rng, shape: np.sin(2 * np.pi * rng.random(shape))),
    "skewed (exponential)": _alike(lambda rng, shape: rng.exponential(size=shape)),
    "skewed (log-normal)": _alike(lambda rng, shape: np.exp(rng.standard_normal(shape))),
    "heavy tails (Student's t, 3)": _alike(lambda rng, shape: rng.standard_t(3, shape)),
    "heavy tails (Cauchy)": _alike(lambda rng, shape: rng.standard_cauchy(shape)),
    "ties: accuracy of 40 examples": _alike(lambda rng, shape: rng.binomial(40, 0.9, shape) / 40, 1 / 40),
    "ties: three values": _alike(lambda rng, shape: rng.integers(0, 3, shape), 1.0),
    "one run in ten collapses": _alike(
        lambda rng, shape: np.where(rng.random(shape) < 0.1, -20.0, rng.standard_normal(shape))
    ),
}


def adopted(x: Array, y: Array, step: float) -> Said:
    """What thalweg gate says: repeated intervals by the better of paired and unpaired t."""
    looks = [difference(x[:, :n], y[:, :n], step) for n in range(1, x.shape[1] + 1)]
    return np.stack([b.low > 0 for b in looks], axis=1), np.stack([b.high < 0 for b in looks], axis=1)


def paired_only(x: Array, y: Array, step: float) -> Said:
    """The same by paired t alone."""
    t, n = _t(x, y)
    said = []
    for level, sign in zip(PAIRED_LEVELS, (1, -1), strict=True):
        p = np.where(n < LEAST, 0.0, level * np.minimum(1.0, (FLAT / n) ** 2))
        said.append(sign * t > np.where(p > 0, stdtrit(np.maximum(n - 1, 1), 1 - np.maximum(p, 1e-12)), np.inf))
    return said[0], said[1]


def safe_t(x: Array, y: Array, step: float) -> Said:
    """The Bayes factor of a normal effect size as an e-process; right for normal differences, without any cap."""
    t, n = _t(x, y)
    g, df = 1 + n, np.maximum(n - 1, 1)
    log = -0.5 * np.log(g) + n / 2 * (np.log1p(t * t / df) - np.log1p(t * t / (df * g)))
    known = n >= 2
    return known & (t > 0) & (log >= math.log(12.5)), known & (t < 0) & (log >= math.log(50))


def signs(x: Array, y: Array, step: float) -> Said:
    """Bets on the sign of each difference, by its size; right for any symmetric difference, without any cap."""
    d, n = y - x, np.arange(1, x.shape[1] + 1)
    size = np.sqrt(np.cumsum(d * d, axis=1) / n)
    ratio = np.divide(d, size, out=np.zeros_like(d), where=size > 0)
    up, down = (
        sum(np.cumprod(1 + np.tanh(sign * bet * ratio), axis=1) for bet in (0.5, 1.0, 2.0)) / 3 for sign in (1, -1)
    )
    return up >= 25, down >= 100


def peeking(x: Array, y: Array, step: float) -> Said:
    """Student's paired test at 5 % after every seed from the third on, as it is often done."""
    t, n = _t(x, y)
    critical = np.where(n < 3, np.inf, stdtrit(np.maximum(n - 1, 1), 0.975))
    return t > critical, t < -critical


def fixed(x: Array, y: Array, step: float) -> Said:
    """Student's paired test of ten seeds, once, with 4 % for better and 1 % for worse."""
    t, n = _t(x, y)
    return (n == CAP) & (t > stdtrit(CAP - 1, 0.96)), (n == CAP) & (t < -stdtrit(CAP - 1, 0.99))


METHODS: dict[str, Callable[[Array, Array, float], Said]] = {
    "**thalweg gate**": adopted,
    "the same, paired differences alone": paired_only,
    "safe t test (e-process)": safe_t,
    "betting on signs (e-process)": signs,
    "t test after each seed, uncorrected": peeking,
    "t test of ten seeds, once": fixed,
}


def _t(x: Array, y: Array) -> tuple[Array, Array]:
    """Returns the paired t after each pair, and the numbers of pairs."""
    d, n = y - x, np.arange(1.0, x.shape[1] + 1)
    mean = np.cumsum(d, axis=1) / n
    variance = np.maximum(np.cumsum(d * d, axis=1) - n * mean**2, 0) / np.maximum(n - 1, 1)
    spread = np.sqrt(variance / n)
    return np.divide(mean, spread, out=np.zeros_like(mean), where=spread > 0), n


def _rates(method: Callable[[Array, Array, float], Said], noise: Noise, gates: int) -> dict[str, float | None]:
    """Returns how often nothing is called better or worse, by ten pairs and by forty, and what is found of a gain."""
    rng = np.random.default_rng(0)
    x, y, step = noise(rng, (gates, LONG))
    better, worse = method(x, y, step)
    early, late = (_ends(better[:, :cap], worse[:, :cap]) for cap in (CAP, LONG))
    spread = float(np.std(y - x))
    found: dict[str, float | None] = {
        "better": float(early[0].mean()),
        "any": float((early[0] | early[1]).mean()),
        "better long": float(late[0].mean()),
        "any long": float((late[0] | late[1]).mean()),
    }
    gain, _, pairs = _ends(*(said[:, :CAP] for said in method(x, y + PLANTED * spread, step)))
    tame = spread < 100 * float(np.median(np.abs(y - x)))  # else there is no standard deviation
    return {**found, "found": float(gain.mean()) if tame else None, "pairs": float(pairs.mean()) if tame else None}


def _ends(better: Mask, worse: Mask) -> tuple[Mask, Mask, NDArray[np.intp]]:
    """Returns what each gate ends with, and with how many pairs."""
    either = better | worse
    end = np.where(either.any(axis=1), either.argmax(axis=1), either.shape[1] - 1)
    rows = np.arange(len(end))
    return better[rows, end], worse[rows, end], end + 1


def _one_sided(scale: float) -> Noise:
    return lambda rng, shape: (rng.exponential(size=shape) - 1, scale * (rng.exponential(size=shape) - 1), 0.0)


EQUAL: dict[str, Noise] = {
    "normal": _normal(0.0),
    "normal, correlation 0.9": _normal(0.9),
    "uniform": NOISES["uniform"],
    "heavy tails (Student's t, 3)": NOISES["heavy tails (Student's t, 3)"],
    "candidate of a fifth of the spread": lambda rng, shape: (
        rng.standard_normal(shape),
        0.2 * rng.standard_normal(shape),
        0.0,
    ),
    "skewed, candidate of half the spread": _one_sided(0.5),
    "skewed, candidate without spread": _one_sided(0.0),
}
MARGINS = (1.0, 2.0, 4.0)  # standard deviations of a difference


def _equal(noise: Noise, gates: int) -> dict[str, float]:
    """Returns how often sides that differ by the whole margin are called equal, and how often equal ones are."""
    x, y, _ = noise(np.random.default_rng(1), (gates, LONG))
    spread, false = float(np.std(y - x)), []
    for margin in (sign * m * spread for m in MARGINS for sign in (1, -1)):
        false.append(_called_equal(x, y - (y - x).mean() + margin, abs(margin)).any(axis=1).mean())
    true = _called_equal(x, y - (y - x).mean(), 2 * spread)
    pairs = np.where(true.any(axis=1), true.argmax(axis=1) + 1, LONG)
    return {"false": float(max(false)), "true": float(true.any(axis=1).mean()), "pairs": float(pairs.mean())}


def _called_equal(x: Array, y: Array, margin: float) -> Mask:
    looks = [difference(x[:, :n], y[:, :n]) for n in range(1, LONG + 1)]
    return np.stack([(-margin < b.low) & (b.high < margin) for b in looks], axis=1)


def _failures() -> dict[str, dict[str, float]]:
    """Returns how often sides that fail alike are told apart, and how soon ones that do not, by the whole judgement."""
    found = {}
    for name, one, two in (
        ("both in 5 %", 0.05, 0.05),
        ("both in 20 %", 0.2, 0.2),
        ("both in 50 %", 0.5, 0.5),
        ("the candidate always", 0.0, 1.0),
        ("the candidate in 50 %", 0.0, 0.5),
    ):
        rng, ends = np.random.default_rng(2), []
        for _ in range(REAL):
            sides = [
                [None if rng.random() < rate else float(score) for score in rng.standard_normal(LONG)]
                for rate in (one, two)
            ]
            ends.append(_gate(sides[0], sides[1], LONG))
        found[name] = {
            "better": fmean(answer == "better" for answer, _ in ends),
            "worse": fmean(answer == "worse" for answer, _ in ends),
            "pairs": fmean(pairs for _, pairs in ends),
        }
    return found


def _gate(x: Sequence[float | None], y: Sequence[float | None], cap: int, direction: str = "max") -> tuple[str, int]:
    """Returns the answer of a whole gate, and its pairs."""
    one, two = ([Run(i, score) for i, score in enumerate(side)] for side in (x, y))
    for n in range(1, cap + 1):
        answer = judge(one[:n], two[:n], direction).answer
        if answer != "not decided":
            return answer, n
    return "not decided", cap


def _bank(name: str, gates: int) -> dict[str, float]:
    """Returns the rates on the real runs of a bank, over its strategies in turn."""
    rng = np.random.default_rng(3)
    recipes = []
    for runs in read(name).values():
        sound = np.isfinite(runs.test).all(axis=1)
        scores = np.where(sound, runs.sign * np.where(np.isfinite(runs.test), runs.test, 0).mean(axis=1), np.inf)
        best = int(scores.argmin())
        near = [i for i in (best - 1, best + 1) if 0 <= i < len(sound) and sound[i]]
        if sound[best] and near:
            recipes.append((-runs.sign * runs.test[best], -runs.sign * runs.test[near[0]]))
    found: dict[str, list[Any]] = {"null": [], "gain": [], "paired null": [], "paired gain": []}
    for i in range(gates):
        recipe, other = recipes[i % len(recipes)]
        order = rng.permutation(len(recipe))
        x, y = recipe[order[:CAP]], recipe[order[CAP : 2 * CAP]]
        gain = PLANTED * math.sqrt(2) * float(recipe.std(ddof=1))
        found["null"].append(_gate(x.tolist(), y.tolist(), CAP))
        found["gain"].append(_gate(x.tolist(), (y + gain).tolist(), CAP))
        apart = other - recipe
        moved = other - apart.mean()
        gain = PLANTED * float(apart.std(ddof=1))
        found["paired null"].append(_gate(x.tolist(), moved[order[:CAP]].tolist(), CAP))
        found["paired gain"].append(_gate(x.tolist(), (moved + gain)[order[:CAP]].tolist(), CAP))
    correlations = [float(np.corrcoef(recipe, other)[0, 1]) for recipe, other in recipes]
    said = {key: [answer for answer, _ in ends] for key, ends in found.items()}
    return {
        "better": fmean(a == "better" for a in said["null"]),
        "any": fmean(a in ("better", "worse") for a in said["null"]),
        "found": fmean(a == "better" for a in said["gain"]),
        "pairs": fmean(pairs for _, pairs in found["gain"]),
        "correlation": fmean(correlations),
        "paired better": fmean(a == "better" for a in said["paired null"]),
        "paired any": fmean(a in ("better", "worse") for a in said["paired null"]),
        "paired found": fmean(a == "better" for a in said["paired gain"]),
        "paired pairs": fmean(pairs for _, pairs in found["paired gain"]),
    }


def show(found: dict[str, Any]) -> str:
    """Returns the tables."""
    per_look = f"{100 * LOWER:.2f} and {100 * UPPER:.2f} %"
    return "\n\n".join(
        [
            f"Methods, on {found['gates']:,} gates of normal runs of which the two of a seed do not go together, and "
            "in brackets of a correlation of 0.9. All but the uncorrected one spend 4 % on better and 1 % on worse.",
            _methods(found),
            f"`thalweg gate` (levels of one look of {per_look}) on other noise; errors by ten pairs, and by forty:",
            _noises(found),
            f"On banks of real runs, {found['real']} gates each. The goal is 5 % of errors at most, and 80 % found "
            "with 7 pairs or fewer:",
            _banks(found),
            f"Sides that fail, over {found['real']} gates of at most {LONG} pairs:",
            table(
                ["runs that fail", "called better", "called worse", "pairs"],
                [
                    [n, _share(r["better"]), _share(r["worse"]), f"{r['pairs']:.1f}"]
                    for n, r in found["failures"].items()
                ],
            ),
            f"Equal within a margin, by {LONG} pairs at most. False: sides that differ by the whole margin of 1, 2 or "
            "4 standard deviations of a difference, the worst of these. True: sides that do not differ, a margin of 2.",
            table(
                ["noise", "false (goal ≤ 5 %)", "true", "pairs"],
                [[n, _share(r["false"]), _share(r["true"]), f"{r['pairs']:.1f}"] for n, r in found["equal"].items()],
            ),
        ]
    )


def _methods(found: Mapping[str, Any]) -> str:
    rows = []
    for name, rates in found["methods"].items():
        one, two = rates["normal"], rates["normal, correlation 0.9"]
        rows.append(
            [
                name,
                *(f"{_share(one[key])} ({_share(two[key])})" for key in ("better", "any", "any long", "found")),
                f"{one['pairs']:.2f} ({two['pairs']:.2f})",
            ]
        )
    head = ["method", "nothing: better", "better or worse", "by forty pairs", "gain: found", "pairs"]
    return table(head, rows)


def _noises(found: Mapping[str, Any]) -> str:
    rows = [
        [name, *(_share(r[key]) for key in ("better", "any", "better long", "any long", "found")), _pairs(r["pairs"])]
        for name, r in found["noises"].items()
    ]
    head = ["noise", "nothing: better", "better or worse", "better, forty", "either, forty", "gain: found", "pairs"]
    return table(head, rows)


def _banks(found: Mapping[str, Any]) -> str:
    keys = ("better", "any", "found", "pairs", "correlation", "paired any", "paired found", "paired pairs")
    rows = [
        [
            name,
            *(f"{r[key]:.2f}" if key in ("pairs", "paired pairs", "correlation") else _share(r[key]) for key in keys),
        ]
        for name, r in found["banks"].items()
    ]
    head = ["bank", "other seeds: better", "better or worse", "gain found", "pairs"]
    return table([*head, "correlation of neighbours", "better or worse", "gain found", "pairs"], rows)


def _share(rate: float | None) -> str:
    return "–" if rate is None else f"{100 * rate:.1f} %"


def _pairs(pairs: float | None) -> str:
    return "–" if pairs is None else f"{pairs:.2f}"
