"""Dictionary learning by alternating minimisation: all codes, then all atoms, until the cost stays."""

import time
import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from thalweg.coordinate.atoms import Norm, update_atoms
from thalweg.coordinate.coder import Coder, Data, on_host
from thalweg.coordinate.lasso import Codes, lasso, one_thread
from thalweg.coordinate.learning import allowed, first_dictionary, interruptible, revive, shown
from thalweg.coordinate.moments import moments
from thalweg.coordinate.scikit_learn import Interval, StrOptions, check_array, check_params, check_sample_weight


class DictionaryLearning(Coder):
    """Learns atoms on which samples have sparse codes.

        min over C, D of  Σ_n w_n (½‖x_n − c_n D‖² + α‖c_n‖₁ + ½ l2‖c_n‖²)   with ‖d_k‖ ≤ 1

    The book's J(H, W) = Σ|H_ij| + Σ(X − HW)²_ij is this with H = C, W = D, α = ½, and twice as large; scikit-learn's is
    this. Convex in C and in D, not in both: each iteration finds the codes, to a duality gap, from the last ones, and
    takes each atom to its minimum a few times. The cost never rises. Atoms that no sample uses are replaced by the
    samples that cost most.

    Arguments:
        n_components: K; the number of features by default.
        alpha: α.
        max_iter: iterations at most.
        tol: relative fall of the cost below which it ends.
        transform_algorithm, transform_n_nonzero_coefs, transform_alpha, split_sign, transform_max_iter: of
            ``transform``, see :class:`thalweg.coordinate.SparseCoder`; α there is this one's by default.
        code_init: codes to begin from ``(n, K)``.
        dict_init: atoms to begin from ``(K, d)``; by default the samples that lie farthest along random directions.
        callback: called with a dict of ``iteration``, ``cost``, ``gap`` and ``dictionary``; ends it by returning True.
        verbose: whether to show a bar with cost and gap.
        random_state: seed of those directions.
        positive_code, positive_dict: whether codes, or atoms, are to be ≥ 0.
        l2: the elastic net's square.
        atom_norm: ``"ball"`` for ‖d_k‖ ≤ 1, ``"unit"`` for ‖d_k‖ = 1.
        gap_tol: relative duality gap of every code.
        device: where to compute; by default where the data are.

    Attributes:
        components_: D ``(K, d)``.
        error_, seconds_: cost after each iteration, and when that was.
        gap_: largest relative duality gap of the last codes.
        n_iter_: iterations.

    scikit-learn's ``n_jobs`` and ``fit_algorithm`` have no part here: torch's threads are used, and both algorithms
    have the same minimum.

    >>> X = np.random.default_rng(0).laplace(size=(50, 3)) @ np.random.default_rng(1).normal(size=(3, 8))
    >>> learnt = DictionaryLearning(3, alpha=0.1, max_iter=50, random_state=0).fit(X)
    >>> learnt.components_.shape, learnt.error_[-1] < 0.5 * learnt.error_[0]
    ((3, 8), True)

    Source: Deep Learning, §8.7.2 and §13.4; Olshausen & Field 1996; Mairal, Bach, Ponce & Sapiro 2009.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = Coder._parameter_constraints | {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "code_init": ["array-like", None],
        "dict_init": ["array-like", None],
        "callback": [callable, None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
        "positive_dict": ["boolean"],
        "atom_norm": [StrOptions({"ball", "unit"})],
    }
    _PASSES = 3  # over the atoms an iteration: next to nothing beside the codes

    n_components: int | None
    alpha: float
    max_iter: int
    tol: float
    code_init: Any
    dict_init: Any
    callback: Callable[[dict[str, Any]], Any] | None
    verbose: bool
    random_state: Any
    positive_dict: bool
    atom_norm: Norm

    def __init__(
        self,
        n_components: int | None = None,
        *,
        alpha: float = 1,
        max_iter: int = 1000,
        tol: float = 1e-8,
        transform_algorithm: str = "omp",
        transform_n_nonzero_coefs: int | None = None,
        transform_alpha: float | None = None,
        code_init: Any = None,
        dict_init: Any = None,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        verbose: bool = False,
        split_sign: bool = False,
        random_state: Any = None,
        positive_code: bool = False,
        positive_dict: bool = False,
        transform_max_iter: int = 10_000,
        l2: float = 0.0,
        atom_norm: Norm = "ball",
        gap_tol: float = 1e-6,
        device: str | torch.device | None = None,
    ) -> None:
        self._keep(locals())

    def fit(self, X: Data, y: object = None, sample_weight: Any = None) -> "DictionaryLearning":
        """Learns the dictionary; an interruption ends it with the best so far.

        Arguments:
            X: samples ``(n, d)``, an array or a tensor.
            y: ignored.
            sample_weight: ``(n,)``; a sample of weight 2 counts as two.
        """
        check_params(self)
        samples = self._samples(X, reset=True)
        weights = self._weights(sample_weight, samples)
        self._start(samples, weights)
        codes = None if self.code_init is None else torch.as_tensor(self.code_init).to(samples)
        self.n_iter_, self.gap_ = 0, float("nan")
        self.error_: list[float] = []
        self.seconds_: list[float] = []
        began = time.perf_counter()
        with shown(self.verbose, self.max_iter, "learning") as report, interruptible():
            for done in range(1, self.max_iter + 1):
                self.n_iter_ = done
                found = self._codes(samples, codes)
                codes, cost = found.codes, found.cost
                self.gap_ = float(found.gap.max())
                self.error_.append(float(cost @ weights))
                self.seconds_.append(time.perf_counter() - began)
                report(self.n_iter_, self.error_[-1], self.gap_)
                if self._callback_ends(self.n_iter_):
                    break
                if len(self.error_) > 1 and self.error_[-2] - self.error_[-1] <= self.tol * self.error_[-1]:
                    break
                if self.n_iter_ == self.max_iter:
                    break
                self._set(self._better(*moments(codes, samples, weights), samples, cost * (weights > 0)))
        return self

    def _callback_ends(self, iteration: int) -> bool:
        """Calls the callback after an iteration; returns whether that ends the fit."""
        if self.callback is None:
            return False
        state = {"cost": self.error_[-1], "gap": self.gap_, "dictionary": self.components_}
        return bool(self.callback({"iteration": iteration, **state}))

    def _weights(self, sample_weight: Any, samples: Tensor) -> Tensor:
        """Returns scikit-learn's weights ``(n,)``, ones where there are none."""
        given = on_host(sample_weight)
        weights = check_sample_weight(given, np.empty((len(samples), 0)), dtype=np.float64, ensure_non_negative=True)
        return torch.from_numpy(weights).to(samples.device)

    def _start(self, samples: Tensor, weights: Tensor) -> None:
        """Sets the first dictionary."""
        size = self.n_components or (samples.shape[1] if self.dict_init is None else len(self.dict_init))
        if self.dict_init is None:
            first = first_dictionary(samples, size, self.atom_norm, self.positive_dict, weights, self.random_state)
        else:
            first = torch.as_tensor(check_array(on_host(self.dict_init), dtype=np.float64, input_name="dict_init"))
            if first.shape != (size, samples.shape[1]):
                raise ValueError(f"dict_init has shape {tuple(first.shape)}: pass ({size}, {samples.shape[1]})")
            first = allowed(first, self.atom_norm, self.positive_dict)
        self._kind = samples.dtype
        self._set(first)

    def _set(self, dictionary: Tensor) -> None:
        self.components_ = dictionary.to(self._kind).numpy()

    def _codes(self, samples: Tensor, start: Tensor | None = None) -> Codes:
        dictionary = torch.as_tensor(self.components_).to(samples)
        with one_thread(dictionary.numel()):
            gram = dictionary.double() @ dictionary.double().T
        with warnings.catch_warnings():
            if self.error_:  # said once
                warnings.filterwarnings("ignore", "all codes are zero|alpha=0")
            return lasso(
                samples,
                dictionary,
                self.alpha,
                l2=self.l2,
                positive=self.positive_code,
                start=start,
                tol=self.gap_tol,
                max_iter=self.transform_max_iter,
                gram=gram,
            )

    def _better(self, second: Tensor, cross: Tensor, samples: Tensor, costs: Tensor) -> Tensor:
        """Returns the dictionary after its half of the descent, dead atoms replaced."""
        dictionary = update_atoms(
            torch.as_tensor(self.components_),
            second,
            cross,
            norm=self.atom_norm,
            positive=self.positive_dict,
            passes=self._PASSES,
        )
        revive(dictionary, second.diagonal().cpu() <= 0, samples, costs, self.positive_dict)
        return dictionary

    def _transform_alpha(self) -> float | None:
        return self.alpha if self.transform_alpha is None else self.transform_alpha
