"""Sparse codes on a dictionary that is given, as a scikit-learn estimator."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg.coordinate.coder import Coder, Data, on_host
from thalweg.coordinate.scikit_learn import check_array, check_params


class SparseCoder(Coder):
    """Codes samples on a fixed dictionary; the default, orthogonal matching pursuit, is scikit-learn's.

    With ``transform_algorithm="lasso_cd"``:  c = argmin ½‖x − cD‖² + α‖c‖₁ + ½ l2‖c‖², as scikit-learn has it; the
    book's Σ|H_ij| + Σ(X − HW)²_ij is twice this with α = ½.

    Arguments:
        dictionary: D ``(K, d)``, one atom a row.
        transform_algorithm: ``"omp"``, ``"lasso_cd"``, ``"lasso_lars"`` (the same minimum and solver) or
            ``"threshold"``; see :func:`thalweg.coordinate.coder.encode`.
        transform_n_nonzero_coefs: atoms a sample for ``"omp"``; d/10 by default.
        transform_alpha: α; 1 by default. Not for ``"omp"``.
        split_sign: whether positive and negative parts are features of their own.
        positive_code: whether codes are to be ≥ 0.
        transform_max_iter: pivots, or sweeps, a sample at most.
        l2: the elastic net's square.
        gap_tol: relative duality gap of every sample.
        device: where to compute; by default where the data are. On the CPU numba's code runs on all of torch's threads.

    scikit-learn's ``n_jobs`` has no part here: torch's threads are used.

    >>> coder = SparseCoder(np.eye(2), transform_algorithm="lasso_cd", transform_alpha=1.0)
    >>> coder.transform(np.array([[3.0, 0.5]])).tolist()
    [[2.0, 0.0]]

    Source: Deep Learning, §8.7.2 and §13.4.
    """

    dictionary: Any

    def __init__(
        self,
        dictionary: Any,
        *,
        transform_algorithm: str = "omp",
        transform_n_nonzero_coefs: int | None = None,
        transform_alpha: float | None = None,
        split_sign: bool = False,
        positive_code: bool = False,
        transform_max_iter: int = 10_000,
        l2: float = 0.0,
        gap_tol: float = 1e-6,
        device: str | torch.device | None = None,
    ) -> None:
        self._keep(locals())

    def fit(self, X: Data, y: object = None) -> "SparseCoder":
        """Checks that the samples are as wide as the atoms, and keeps their names; there is nothing to learn."""
        check_params(self)
        self._samples(X, reset=True)
        return self

    @property
    def components_(self) -> Any:
        """The dictionary ``(K, d)``."""
        return check_array(on_host(self.dictionary), dtype=[np.float64, np.float32], input_name="dictionary")

    @property
    def n_components_(self) -> int:
        """Number of atoms."""
        return len(self.components_)

    def _samples(self, X: Data, reset: bool) -> Tensor:
        samples, shape = super()._samples(X, reset), self.components_.shape
        if samples.shape[1] != shape[1]:
            raise ValueError(
                "Dictionary and X have different numbers of features:"
                f"dictionary.shape: {shape} X.shape: {tuple(samples.shape)}"
            )
        return samples

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags
