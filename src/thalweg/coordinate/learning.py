"""What learning a dictionary needs besides its two halves: a start, atoms that died, a bar, an end."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from thalweg.coordinate.atoms import Norm
from thalweg.coordinate.scikit_learn import check_random_state
from thalweg.extras import needs

_PART = 1 << 14  # samples looked at at once
_ALIKE = 1 - 1e-6  # cosine above which two atoms are one

Report = Callable[[int, float, float], None]


def first_dictionary(samples: Tensor, atoms: int, norm: Norm, positive: bool, weights: Tensor, seed: Any) -> Tensor:
    """Returns atoms ``(K, d)`` of norm 1: the samples that lie farthest along random directions.

    Where several directions lead to the same sample it is taken once, and the others are atoms themselves. Neither
    the samples' order nor repeating one matters.
    """
    draws = torch.from_numpy(check_random_state(seed).standard_normal((atoms, samples.shape[1])))
    best, first = draws.new_full((atoms,), 0.0), draws.clone()
    for part, weight in zip(samples.split(_PART), weights.split(_PART), strict=True):
        x = part[weight > 0].double().cpu()
        if not len(x):
            continue
        far, row = (x @ draws.T).max(0)
        first = torch.where((far > best)[:, None], x[row], first)
        best = torch.maximum(best, far)
    again = (first[:, None] == first[None]).all(2).tril(-1).any(1)
    return allowed(torch.where(again[:, None], draws, first), norm, positive, always=True)


def allowed(dictionary: Tensor, norm: Norm, positive: bool, always: bool = False) -> Tensor:
    """Returns atoms brought to the norm and sign allowed; to norm 1 in any case with ``always``."""
    atoms = dictionary.abs() if positive and always else dictionary.clamp(min=0) if positive else dictionary
    length = atoms.norm(dim=1, keepdim=True)
    return atoms / (length.clamp(min=1e-300) if always or norm == "unit" else length.clamp(min=1))


def revive(dictionary: Tensor, dead: Tensor, samples: Tensor, costs: Tensor, positive: bool) -> None:
    """Puts the samples of largest cost, brought to norm 1, in the dead atoms' places; no direction twice."""
    places = dead.nonzero()[:, 0]
    if not len(places):
        return
    order = costs.argsort(descending=True, stable=True)[: 4 * len(places)]
    worst = samples[order[costs[order] > 0]].to(dictionary)
    worst = worst.clamp(min=0) if positive else worst
    worst = worst[worst.any(1)]
    worst = worst / worst.norm(dim=1, keepdim=True)
    alike = ((worst @ worst.T).abs() > _ALIKE).tril(-1).any(1)
    alike |= ((worst @ dictionary[~dead].T).abs() > _ALIKE * dictionary[~dead].norm(dim=1)).any(1)
    worst = worst[~alike][: len(places)]
    dictionary[places[: len(worst)]] = worst


@contextmanager
def shown(verbose: bool, total: int, what: str) -> Iterator[Report]:
    """Gives a function that takes steps done, cost and gap, and shows them in a bar where that is asked for."""
    if not verbose:
        yield lambda done, cost, gap: None
        return
    with needs("compare", "verbose=True"):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    text = TextColumn("cost {task.fields[cost]:.6g}  gap {task.fields[gap]:.1e}")
    with Progress(TextColumn(what), BarColumn(), MofNCompleteColumn(), text, TimeElapsedColumn()) as bar:
        task = bar.add_task(what, total=total, cost=float("nan"), gap=float("nan"))
        yield lambda done, cost, gap: bar.update(task, completed=done, cost=cost, gap=gap)


@contextmanager
def interruptible() -> Iterator[None]:
    """Ends its body at an interruption, and says that what was learnt so far is kept."""
    try:
        yield
    except KeyboardInterrupt:
        warnings.warn("the fit was interrupted: the best dictionary so far is kept", stacklevel=3)
