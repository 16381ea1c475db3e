"""Online dictionary learning: codes of a batch, its statistics added to those of the batches before, then all atoms."""

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import count
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from thalweg.coordinate.atoms import Norm
from thalweg.coordinate.coder import Data
from thalweg.coordinate.dictionary_learning import DictionaryLearning
from thalweg.coordinate.lasso import Codes, one_thread
from thalweg.coordinate.learning import interruptible, shown
from thalweg.coordinate.moments import moments
from thalweg.coordinate.scikit_learn import Interval, check_params, check_random_state


class MiniBatchDictionaryLearning(DictionaryLearning):
    """Learns atoms as :class:`DictionaryLearning` does, from a batch at a time, which may come from a loader.

        codes of the batch:  c_n = argmin ½‖x_n − c D‖² + α‖c‖₁
        statistics:          A ← β A + (1/b) Σ cᵀc,   B ← β B + (1/b) Σ cᵀx,   β = (θ + 1 − b) / (θ + 1)
        atoms:               one pass of block coordinate descent on  ½ tr(D Dᵀ A) − tr(D Bᵀ)

    with θ = t b while the step t is below the batch size b, then b² + t − b: old codes, made on old atoms, are
    forgotten. That is scikit-learn's schedule.

    Arguments:
        batch_size: samples a step; memory is bounded by it and by the dictionary.
        max_iter: epochs.
        shuffle: whether the samples are put into a new order for each epoch.
        tol: a step that changes the dictionary by less, ‖ΔD‖ / K, ends it; 0 for never.
        max_no_improvement: steps in a row without a lower averaged cost that end it; None for never.
        callback: called after each step.
        The others are those of :class:`DictionaryLearning`; ``code_init`` has no part.

    Attributes:
        components_: D ``(K, d)``.
        n_iter_, n_steps_: epochs and steps.
        error_, seconds_: a batch's mean cost at each step, and when that was.
        gap_: largest relative duality gap in the last batch.

    >>> X = np.random.default_rng(0).laplace(size=(200, 3)) @ np.random.default_rng(1).normal(size=(3, 8))
    >>> learner = MiniBatchDictionaryLearning(3, alpha=0.1, batch_size=20, max_iter=5, tol=0, max_no_improvement=None)
    >>> learnt = learner.set_params(random_state=0).fit(X)
    >>> learnt.components_.shape, learnt.n_steps_
    ((3, 8), 50)

    Source: Deep Learning, §8.7.2; Mairal, Bach, Ponce & Sapiro 2009.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = DictionaryLearning._parameter_constraints | {
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "max_no_improvement": [Interval(Integral, 0, None, closed="left"), None],
    }
    _PASSES = 1

    batch_size: int
    shuffle: bool
    max_no_improvement: int | None

    def __init__(
        self,
        n_components: int | None = None,
        *,
        alpha: float = 1,
        max_iter: int = 1000,
        batch_size: int = 256,
        shuffle: bool = True,
        dict_init: Any = None,
        transform_algorithm: str = "omp",
        transform_n_nonzero_coefs: int | None = None,
        transform_alpha: float | None = None,
        verbose: bool = False,
        split_sign: bool = False,
        random_state: Any = None,
        positive_code: bool = False,
        positive_dict: bool = False,
        transform_max_iter: int = 10_000,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        tol: float = 1e-3,
        max_no_improvement: int | None = 10,
        l2: float = 0.0,
        atom_norm: Norm = "ball",
        gap_tol: float = 1e-6,
        device: str | torch.device | None = None,
    ) -> None:
        self._keep(locals())

    def fit(self, X: "Data | DataLoader[Any]", y: object = None) -> "MiniBatchDictionaryLearning":  # type: ignore[override]
        """Learns the dictionary; an interruption ends it with what there is.

        Arguments:
            X: samples ``(n, d)``, or a ``torch.utils.data.DataLoader`` whose batches are samples or begin with them;
                it is gone through once an epoch.
            y: ignored.
        """
        check_params(self)
        self._forget()
        size, epochs = self._epochs(X)
        with shown(self.verbose, self.max_iter, "epochs") as report, interruptible():
            for epoch in range(1, self.max_iter + 1):
                self.n_iter_ = epoch
                for batch in next(epochs):
                    before = getattr(self, "components_", None)
                    self._step(batch, self._weights(None, batch))
                    if self._done(before, len(batch), size) or self._callback_ends(self.n_steps_):
                        return self
                if not self.error_:
                    raise ValueError("the loader has no batches: pass a loader that yields samples")
                report(self.n_iter_, self.error_[-1], self.gap_)
        return self

    def partial_fit(self, X: Data, y: object = None, sample_weight: Any = None) -> "MiniBatchDictionaryLearning":
        """Takes one step with the samples ``(n, d)``, of weights ``(n,)``; the first call sets the first atoms."""
        if not hasattr(self, "n_steps_"):
            self._forget()
        check_params(self)
        samples = self._samples(X, reset=self.n_steps_ == 0)
        self._step(samples, self._weights(sample_weight, samples))
        return self

    def _forget(self) -> None:
        self.n_steps_, self.n_iter_, self.gap_ = 0, 0, float("nan")
        self.error_, self.seconds_, self._began = [], [], time.perf_counter()
        self._averaged: float | None = None
        self._least, self._since = float("inf"), 0
        if hasattr(self, "components_"):
            del self.components_

    def _epochs(self, X: "Data | DataLoader[Any]") -> tuple[int, Iterator[Iterable[Tensor]]]:
        """Returns the number of samples, 0 where a loader does not know, and the epochs' batches."""
        if isinstance(X, DataLoader):
            size = len(X.dataset) if isinstance(X.dataset, Sized) else 0
            return size, (self._loaded(X) for _ in count())
        samples, draws = self._samples(X, reset=True), check_random_state(self.random_state)
        self._start(samples, self._weights(None, samples))

        def order() -> Tensor:
            return torch.from_numpy(draws.permutation(len(samples)) if self.shuffle else np.arange(len(samples)))

        def batch(rows: Tensor) -> Tensor:
            with one_thread(len(rows) * samples.shape[1]):
                return samples[rows]

        return len(samples), (map(batch, order().split(self.batch_size)) for _ in count())

    def _loaded(self, loader: "DataLoader[Any]") -> Iterator[Tensor]:
        for batch in loader:
            yield self._samples(batch[0] if isinstance(batch, tuple | list) else batch, reset=self.n_steps_ == 0)

    def _step(self, samples: Tensor, weights: Tensor) -> None:
        if self.n_steps_ == 0:
            if not hasattr(self, "components_"):
                self._start(samples, weights)
            self._second = torch.zeros(len(self.components_), len(self.components_), dtype=torch.float64)
            self._cross = torch.zeros(self.components_.shape, dtype=torch.float64)
        found = self._codes(samples)
        with one_thread(len(samples) * len(self.components_)):
            self._learn(samples, found, weights)

    def _learn(self, samples: Tensor, found: Codes, weights: Tensor) -> None:
        """Adds a batch to the statistics, and moves the atoms."""
        size, total = len(samples), float(weights.sum())
        self.error_.append(float(found.cost @ weights) / max(total, 1e-300))
        self.seconds_.append(time.perf_counter() - self._began)
        self.gap_ = float(found.gap.max())
        step = self.n_steps_ + 1
        theta = step * size if step < size else size**2 + step - size
        beta = (theta + 1 - size) / (theta + 1)
        second, cross = moments(found.codes, samples, weights / size)
        self._second, self._cross = beta * self._second + second, beta * self._cross + cross
        self.n_steps_ = step
        self._set(self._better(self._second, self._cross, samples, found.cost * (weights > 0)))

    def _done(self, before: Any, batch: int, size: int) -> bool:
        """scikit-learn's ends, from the second epoch, or the 100th step, on."""
        if self.n_steps_ <= (min(100, size / batch) if size else 100):
            return False
        if self.tol > 0 and np.linalg.norm(self.components_ - before) / len(before) <= self.tol:
            return True
        share = min(1.0, batch / (size + 1) if size else 0.01)
        last = self.error_[-1]
        averaged = last if self._averaged is None else (1 - share) * self._averaged + share * last
        self._since = 0 if averaged < self._least else self._since + 1
        self._averaged, self._least = averaged, min(self._least, averaged)
        return self.max_no_improvement is not None and self._since >= self.max_no_improvement
