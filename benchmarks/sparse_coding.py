"""Sparse codes and dictionaries of natural-image patches, against scikit-learn and all exact solvers that pip installs.

The data are 10,000 patches of 8 × 8 pixels with 128 atoms, and of 12 × 12 pixels with 256 atoms, from scikit-learn's
two photographs. Each patch has its mean subtracted and is divided by its contrast, in float64. The atoms come from
scikit-learn's minibatch learner, and α is such that about 5, 10 and 30 % of the codes are non-zero. thalweg stops at a
relative duality gap of 1e-6 for every sample. scikit-learn's ``sparse_encode`` has max_iter 10,000 and the better of
one and two jobs; least angle regression, celer and skglm are timed on fewer patches and scaled up. The gap of every
solver is measured in the same way, and the largest gap over all samples is shown.

A dictionary is learned by scikit-learn, with 5 epochs in batches of 256 or with 10 iterations, and α for 10 %; thalweg
runs until its cost over all patches is no higher, checked at each step. The last tables give the time for up to a
million patches, and the peak memory of coding and of a fit over a loader, apart from the patches and the codes, each in
its own process.
"""

import ctypes
import importlib.util
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import decomposition
from sklearn.datasets import load_sample_images
from torch import Tensor

from benchmarks.measure import alternately, ratio, seconds, table
from thalweg.coordinate import DictionaryLearning, MiniBatchDictionaryLearning, duality_gap, lasso, patches

Array = NDArray[np.float64]
SIZES, SHARES, PATCHES, ROUNDS = ((8, 128), (12, 256)), (0.05, 0.1, 0.3), 10_000, 3
FEW = {"scikit-learn lasso_lars": 300, "celer": 100, "skglm": 100}  # patches timed of the slow ones
MILLION = (10_000, 100_000, 1_000_000)
OURS = "thalweg"


def measure() -> dict[str, Any]:
    """Returns seconds and gaps of each solver, costs and seconds of each learner, seconds by number of samples."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peers that do not reach their tolerance say so often
        return {
            "coding": [_coding(size, atoms, share) for size, atoms in SIZES for share in SHARES],
            "learning": [_learning(size, atoms) for size, atoms in SIZES],
            "samples": _samples(),
            "memory": [(n, *(_elsewhere(work, n) for work in (_coded, _loaded))) for n in MILLION[1:]],
        }


def show(found: dict[str, Any]) -> str:
    """Returns the tables."""
    parts = []
    names = dict.fromkeys(name for run in found["coding"] for name in run["seconds"])
    head = ["patches, non-zero", *names]
    rows = []
    for run in found["coding"]:
        cells = [_cell(run, name) if name in run["seconds"] else None for name in names]
        rows.append([f"{run['size']} × {run['size']}, {run['share']:.1%}", *cells])
    parts.append(table(head, rows))
    parts.append(
        "Each cell gives seconds and, in parentheses, the largest gap and the time relative to thalweg's (the median "
        "of the rounds' ratios)."
    )
    rows = [
        [
            f"{run['size']} × {run['size']}, {what}",
            *(r[k] for k in ("theirs", "ours")),
            r["theirs"] / r["ours"],
            r["cost"],
            r["final"],
        ]
        for run in found["learning"]
        for what, r in run["runs"].items()
    ]
    parts.append(
        table(
            [
                "learning",
                "scikit-learn, s",
                "thalweg, s",
                "ratio",
                "scikit-learn, cost per patch",
                "thalweg, cost per patch",
            ],
            rows,
        )
    )
    rows = [[f"{n:,}", s, s / n * 1e6] for n, s in found["samples"]]
    parts.append(table(["patches 8 × 8, 10 %", "s", "µs a patch"], rows))
    if found.get("memory"):
        head = ["patches 8 × 8, 10 %", "coding in batches of 16,384, MB", "fit over a loader in batches of 256, MB"]
        parts.append(table(head, [[f"{n:,}", *peaks] for n, *peaks in found["memory"]]))
    return "\n\n".join(parts)


def _cell(run: dict[str, Any], name: str) -> str:
    taken = sorted(run["seconds"][name])
    times = "" if name == OURS else f", {ratio(run['seconds'][name], run['seconds'][OURS]):.3g} ×"
    return f"{taken[len(taken) // 2]:.3g} ({run['gap'][name]:.0e}{times})"


def contrast_normalised(size: int, n: int, seed: int = 0) -> Array:
    """Returns patches ``(n, size²)``, half from each photograph, less their mean, over √(variance + (√10/255)²)."""
    draws = torch.Generator().manual_seed(seed)
    parts = []
    for picture in load_sample_images().images:
        rows = patches(torch.from_numpy(picture.mean(2) / 255), size)
        parts.append(rows[torch.randint(len(rows), (n // 2,), generator=draws)])
    rows = torch.cat(parts)
    rows = rows - rows.mean(1, keepdim=True)
    return (rows / (rows.var(1, correction=0, keepdim=True) + 10 / 255**2).sqrt()).numpy()


def _dictionary(x: Array, atoms: int) -> Array:
    learner = decomposition.MiniBatchDictionaryLearning(
        atoms, alpha=1.0, batch_size=256, max_iter=3, random_state=0, fit_algorithm="cd"
    )
    return learner.fit(x).components_


def _alpha(x: Array, d: Array, share: float) -> float:
    low, high = 1e-3, 30.0
    some, atoms = torch.from_numpy(x[::10]), torch.from_numpy(d)
    for _ in range(15):
        middle = (low * high) ** 0.5
        few = float((lasso(some, atoms, middle).codes != 0).double().mean()) < share
        low, high = (low, middle) if few else (middle, high)
    return middle


def _solvers(d: Array, alpha: float) -> dict[str, Callable[[Array], Array]]:
    """Returns functions from samples to codes."""
    atoms = torch.from_numpy(d)
    encode = partial(decomposition.sparse_encode, dictionary=d, alpha=alpha, max_iter=10_000)
    solvers: dict[str, Callable[[Array], Array]] = {
        OURS: lambda x: lasso(torch.from_numpy(x), atoms, alpha).codes.numpy(),
        "scikit-learn lasso_cd": lambda x: encode(x, algorithm="lasso_cd", n_jobs=1),
        "scikit-learn lasso_cd, 2 jobs": lambda x: encode(x, algorithm="lasso_cd", n_jobs=2),
        "scikit-learn lasso_lars": lambda x: encode(x, algorithm="lasso_lars", n_jobs=1),
    }
    width = d.shape[1]
    if importlib.util.find_spec("spams"):
        import spams

        def lars(x: Array) -> Array:
            found = spams.lasso(np.asfortranarray(x.T), D=np.asfortranarray(d.T), lambda1=alpha, mode=2, numThreads=2)
            return found.T.toarray()

        solvers["spams lasso, 2 threads"] = lars
    if importlib.util.find_spec("celer"):
        from celer import Lasso as Celer

        model = Celer(alpha=alpha / width, fit_intercept=False, tol=1e-6)
        solvers["celer"] = lambda x: np.stack([model.fit(d.T, row).coef_ for row in x])
    if importlib.util.find_spec("skglm"):
        from skglm import Lasso as Skglm

        other = Skglm(alpha=alpha / width, fit_intercept=False, tol=1e-6)
        solvers["skglm"] = lambda x: np.stack([other.fit(np.asfortranarray(d.T), row).coef_ for row in x])
    return solvers


def _coding(size: int, atoms: int, share: float) -> dict[str, Any]:
    x = contrast_normalised(size, PATCHES)
    d = _dictionary(x, atoms)
    alpha = _alpha(x, d, share)
    solvers = _solvers(d, alpha)
    some = {name: x[:: PATCHES // FEW[name]] if name in FEW else x for name in solvers}
    codes: dict[str, Array] = {}

    def run(name: str) -> float:
        began = time.perf_counter()
        codes[name] = solvers[name](some[name])
        return (time.perf_counter() - began) * PATCHES / len(some[name])

    for solve in solvers.values():
        solve(x[:64])  # compiles, starts processes
    taken = alternately({name: partial(run, name) for name in solvers}, ROUNDS)
    gaps = {
        name: float(duality_gap(*map(torch.from_numpy, (c, some[name], d)), alpha).max()) for name, c in codes.items()
    }
    nonzero = float((codes[OURS] != 0).mean())
    return {"size": size, "atoms": atoms, "alpha": alpha, "share": nonzero, "gap": gaps, "seconds": taken}


def _cost(x: Array, d: Array, alpha: float) -> float:
    rows, atoms = torch.from_numpy(x), torch.from_numpy(d)
    c = lasso(rows, atoms, alpha).codes
    return float((0.5 * ((rows - c @ atoms) ** 2).sum(1) + alpha * c.abs().sum(1)).mean())


def _learning(size: int, atoms: int) -> dict[str, Any]:
    x = contrast_normalised(size, PATCHES)
    alpha = _alpha(x, _dictionary(x, atoms), 0.1)
    common: dict[str, Any] = {"alpha": alpha, "random_state": 0}
    batches = common | {"batch_size": 256, "tol": 0.0, "max_no_improvement": None}
    peers: dict[str, Any] = {"fit_algorithm": "cd", "transform_max_iter": 10_000}
    MiniBatchDictionaryLearning(atoms, **batches).set_params(max_iter=1).fit(x[:512])  # compiles

    began = time.perf_counter()
    theirs = decomposition.MiniBatchDictionaryLearning(atoms, max_iter=5, **batches, **peers).fit(x)
    online = {"theirs": time.perf_counter() - began, "cost": _cost(x, theirs.components_, alpha)}
    steps: list[Array] = []

    def reached(now: dict[str, Any]) -> bool:
        steps.append(now["dictionary"].copy())
        online["final"] = _cost(x, steps[-1], alpha)
        return bool(online["final"] <= online["cost"])

    ours = MiniBatchDictionaryLearning(atoms, max_iter=100, **batches)
    ours.set_params(callback=reached).fit(x)
    ours.set_params(callback=lambda now: now["iteration"] == len(steps))
    online |= {"ours": median(seconds(lambda: ours.fit(x)) for _ in range(ROUNDS)), "steps": len(steps)}

    began = time.perf_counter()
    whole = decomposition.DictionaryLearning(atoms, max_iter=10, tol=0.0, **common, **peers).fit(x)
    all_at_once = {"theirs": time.perf_counter() - began, "cost": whole.error_[-1] / PATCHES}
    goal = whole.error_[-1]
    fitted = DictionaryLearning(atoms, max_iter=100, tol=0.0, callback=lambda now: now["cost"] <= goal, **common).fit(x)
    all_at_once |= {"ours": fitted.seconds_[-1], "final": fitted.error_[-1] / PATCHES}
    return {"size": size, "alpha": alpha, "runs": {"minibatch": online, "whole": all_at_once}}


def _samples() -> list[tuple[int, float]]:
    x = contrast_normalised(8, PATCHES)
    d = _dictionary(x, 128)
    alpha, atoms = _alpha(x, d, 0.1), torch.from_numpy(d).float()
    found = []
    for n in MILLION:
        rows = torch.from_numpy(contrast_normalised(8, n)).float()
        lasso(rows[:10], atoms, alpha)
        began = time.perf_counter()
        lasso(rows, atoms, alpha)
        found.append((n, time.perf_counter() - began))
    return found


def _elsewhere(work: Callable[[int], Callable[[], int]], n: int) -> float | None:
    """Returns the megabytes that a process of its own took at its peak, for what ``work`` does not call needed."""
    if not Path("/proc/self/clear_refs").exists():
        return None  # only Linux forgets a peak
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (work, n))


def _peak(work: Callable[[int], Callable[[], int]], n: int) -> float:
    run = work(n)
    ctypes.CDLL(None).malloc_trim(0)  # what the making of the patches left free would serve unseen
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    needed = run()
    return _resident("VmHWM") - before - needed / 1e6


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


def _coded(n: int) -> Callable[[], int]:
    """Returns what codes n patches, and then gives the bytes of the codes, their costs, gaps and counts."""
    rows, atoms = torch.from_numpy(contrast_normalised(8, n)).float(), _atoms()
    lasso(rows[:1000], atoms, 0.5)

    def run() -> int:
        found = lasso(rows, atoms, 0.5)
        return sum(t.nbytes for t in (found.codes, found.cost, found.gap, found.n_iter))

    return run


def _loaded(n: int) -> Callable[[], int]:
    """Returns what learns from n patches that come in batches of 256, and need not stay."""
    rows = torch.from_numpy(contrast_normalised(8, PATCHES)).float()
    learner = MiniBatchDictionaryLearning(alpha=0.5, max_iter=1, dict_init=_atoms(), tol=0.0, max_no_improvement=None)
    learner.fit(torch.utils.data.DataLoader(_Batches(rows, 1000), batch_size=None))

    def run() -> int:
        learner.fit(torch.utils.data.DataLoader(_Batches(rows, n), batch_size=None))
        return 0

    return run


class _Batches(torch.utils.data.IterableDataset[Tensor]):
    """Draws batches of 256 from some patches until there are n."""

    def __init__(self, rows: Tensor, n: int) -> None:
        self.rows, self.n = rows, n

    def __iter__(self) -> Iterator[Tensor]:
        draws = torch.Generator().manual_seed(0)
        for _ in range(self.n // 256):
            yield self.rows[torch.randint(len(self.rows), (256,), generator=draws)]


def _atoms() -> Tensor:
    """Returns 128 patches of norm 1."""
    rows = torch.from_numpy(contrast_normalised(8, 256, seed=1)).float()
    return torch.nn.functional.normalize(rows[:128])
