"""Tuning as thalweg does it, and its choices, played on banks of runs for many roots at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.bank import Draws, Landscape, Mask, Numbers, Whole
from thalweg.compare.design import BEST, WINDOW
from thalweg.compare.ranges import EDGE


def ranked(metric: Numbers, loss: Numbers, of: Mask) -> Whole:
    """Returns the columns of each row, the best first, those that are not asked for or failed last."""
    kept = of & np.isfinite(metric)
    order: Whole = np.lexsort((np.where(kept, loss, np.inf), np.where(kept, metric, np.inf), ~kept), axis=1)
    return order


def best_mean(metric: Numbers, loss: Numbers, lr: Numbers, of: Mask) -> tuple[Numbers, Mask]:
    """Returns the weighted mean of the best learning rates of each row, and where there is none."""
    order = ranked(metric, loss, of)[:, :BEST]
    kept = np.take_along_axis(of & np.isfinite(metric), order, 1)
    weights = kept * (np.log(BEST + 0.5) - np.log(np.arange(1, order.shape[1] + 1)))
    total = weights.sum(axis=1)
    mean = (weights * np.take_along_axis(lr, order, 1)).sum(axis=1) / np.where(total > 0, total, 1)
    return mean, total == 0


def column(values: NDArray[np.generic], at: Whole) -> NDArray[np.generic]:
    """Returns the entry of each row at its position."""
    return values[np.arange(len(values)), at]


def at_seeds(land: Landscape, scores: tuple[Numbers, Numbers], lr: Numbers, seeds: Whole) -> tuple[Numbers, Numbers]:
    """Returns the metric and the loss at learning rates under seeds."""
    at = land.nearest(lr)
    return scores[0][at, seeds], scores[1][at, seeds]


@dataclass(frozen=True)
class Tuned:
    """What tuning came to: arrays over roots × configurations.

    Attributes:
        lr: learning rates, in decades.
        metric: at the end, or at a third of the steps; lower is better, infinite where a run failed.
        loss: the same of the loss.
        ended: those that went on to the end, and did not fail by then.
        start: the default learning rate.
    """

    lr: Numbers
    metric: Numbers
    loss: Numbers
    ended: Mask
    start: float


def tuned(land: Landscape, draws: Draws, shift: float, trials: int, held_back: int = 4, keep: int = 8) -> Tuned:
    """Returns what tuning as thalweg does it comes to, a third of the configurations near the best of the others."""
    low, high = (end + shift for end in land.range)
    u, start = draws.points[:, :trials], float(np.log10(land.runs.default)) + shift
    seeds = draws.tuning[:, : trials + 1]
    lr = low + (high - low) * np.insert(u, 0, (start - low) / (high - low), axis=1)
    first = trials - held_back + 1
    if held_back:
        metric, loss = at_seeds(land, land.rung, lr[:, :first], seeds[:, :first])
        everything = np.ones_like(metric, dtype=bool)
        centre, none = best_mean(metric, loss, lr[:, :first], everything)
        best = np.asarray(column(lr, ranked(metric, loss, everything)[:, 0]), dtype=float)
        centre = np.where(best < low + EDGE * (high - low), low, centre)
        centre = np.where(best > high - EDGE * (high - low), high, centre)
        near = centre[:, None] + WINDOW * (high - low) * (2 * u[:, first - 1 :] - 1)
        lr[:, first:] = np.where(none[:, None], lr[:, first:], near)
    return trained(land, lr, seeds, keep, start)


def trained(land: Landscape, lr: Numbers, seeds: Whole, keep: int, start: float) -> Tuned:
    """Returns what configurations come to of which so many go on from a third of the steps to the end."""
    metric, loss = at_seeds(land, land.rung, lr, seeds)
    ended = np.zeros_like(metric, dtype=bool)
    np.put_along_axis(ended, ranked(metric, loss, ~ended)[:, :keep], True, axis=1)
    ended &= np.isfinite(metric)
    at_end = at_seeds(land, land.end, lr, seeds)
    return Tuned(lr, np.where(ended, at_end[0], metric), np.where(ended, at_end[1], loss), ended, start)


def chosen(state: Tuned, of: Mask) -> Numbers:
    """Returns the learning rate that some of the configurations choose, of those that ended first."""
    mean, none = best_mean(state.metric, state.loss, state.lr, of & state.ended)
    early, nothing = best_mean(state.metric, state.loss, state.lr, of)
    found: Numbers = np.where(none, np.where(nothing, state.start, early), mean)
    return found
