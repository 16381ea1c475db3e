"""What the estimators share: arrays in scikit-learn's manner, codes by name, and back."""

import warnings
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thalweg.coordinate.lasso import lasso
from thalweg.coordinate.omp import orthogonal_matching_pursuit
from thalweg.coordinate.scikit_learn import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    Interval,
    StrOptions,
    TransformerMixin,
    check_is_fitted,
    check_params,
    validate_data,
)

Data = NDArray[Any] | Tensor
_PART = 1 << 14  # samples thresholded at once
ALGORITHMS = ("lasso_cd", "lasso_lars", "omp", "threshold")


def encode(
    samples: Tensor,
    dictionary: Tensor,
    algorithm: str,
    *,
    alpha: float | None = None,
    n_nonzero: int | None = None,
    positive: bool = False,
    l2: float = 0.0,
    gap_tol: float = 1e-6,
    max_iter: int = 10_000,
) -> Tensor:
    """Returns codes ``(n, K)`` by one of scikit-learn's algorithms, with its meaning of ``alpha`` for each.

    Arguments:
        samples: ``(n, d)``.
        dictionary: ``(K, d)``.
        algorithm: ``"lasso_cd"`` and ``"lasso_lars"``, which have the same minimum and here the same solver;
            ``"omp"``, which ends at ``n_nonzero`` atoms; ``"threshold"``, the correlations with the atoms
            soft-thresholded at ``alpha``.
        alpha: 1 by default; of no meaning for ``"omp"``.
        n_nonzero: of ``"omp"``, d/10 by default.
        positive: whether codes are to be ≥ 0; not for ``"omp"``.
        l2, gap_tol, max_iter: of :func:`thalweg.coordinate.lasso`.

    Raises:
        ValueError: an unknown algorithm, or positive codes by ``"omp"``.

    >>> encode(torch.tensor([[3.0, 0.5]]), torch.eye(2), "threshold", alpha=1.0).tolist()
    [[2.0, 0.0]]
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {algorithm!r}: choose among {', '.join(ALGORITHMS)}")
    if algorithm == "omp":
        if positive:
            raise ValueError("Positive constraint not supported for 'omp' coding method.")
        return orthogonal_matching_pursuit(samples, dictionary, n_nonzero)
    alpha = 1.0 if alpha is None else alpha
    if algorithm == "threshold":
        codes = samples @ dictionary.T
        for part in codes.split(_PART):
            part.sub_(part.clamp(max=alpha) if positive else part.clamp(-alpha, alpha))
        return codes
    found = lasso(samples, dictionary, alpha, l2=l2, positive=positive, tol=gap_tol, max_iter=max_iter)
    return found.codes


def on_host(values: Any) -> Any:
    """Returns a tensor's numbers as an array, wherever it is and of whichever type; anything else as it is.

    >>> on_host(torch.ones(2, dtype=torch.bfloat16, requires_grad=True))
    array([1., 1.], dtype=float32)
    """
    if not isinstance(values, Tensor):
        return values
    host = values.detach().cpu()
    return (host.float() if host.dtype == torch.bfloat16 else host).numpy()


class Coder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Base of the estimators: their parameters by scikit-learn's names, ``components_`` and both ways between.

    What is computed on a device: the codes, from Gram matrix to duality gap. Data come by way of the CPU, where
    scikit-learn checks them; atoms, and what they need to know of the codes, are there in float64.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "transform_algorithm": [StrOptions(set(ALGORITHMS))],
        "transform_n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), None],
        "transform_alpha": [Interval(Real, 0, None, closed="left"), None],
        "transform_max_iter": [Interval(Integral, 0, None, closed="left")],
        "split_sign": ["boolean"],
        "positive_code": ["boolean"],
        "l2": [Interval(Real, 0, None, closed="left")],
        "gap_tol": [Interval(Real, 0, None, closed="left")],
    }
    transform_algorithm: str
    transform_n_nonzero_coefs: int | None
    transform_alpha: float | None
    transform_max_iter: int
    split_sign: bool
    positive_code: bool
    l2: float
    gap_tol: float
    device: str | torch.device | None
    components_: Any

    def _keep(self, arguments: Mapping[str, Any]) -> None:
        """Sets the constructor's arguments, as ``locals()`` gives them there, as attributes of the same names."""
        self.__dict__.update({name: value for name, value in arguments.items() if name not in ("self", "__class__")})

    def transform(self, X: Data, y: object = None) -> Data:
        """Returns the samples' codes ``(n, K)``, twice as wide with ``split_sign``; a tensor for a tensor."""
        check_is_fitted(self)
        check_params(self)
        samples = self._samples(X, reset=False)
        codes = encode(
            samples,
            torch.as_tensor(self.components_).to(samples),
            self.transform_algorithm,
            alpha=self._transform_alpha(),
            n_nonzero=self.transform_n_nonzero_coefs,
            positive=self.positive_code,
            l2=self.l2,
            gap_tol=self.gap_tol,
            max_iter=self.transform_max_iter,
        )
        if self.split_sign:
            atoms, both = codes.shape[1], codes.new_empty(len(codes), 2 * codes.shape[1])
            torch.clamp(codes, min=0, out=both[:, :atoms])
            torch.neg(codes, out=both[:, atoms:]).clamp_(min=0)
            codes = both
        return codes.to(X.device) if isinstance(X, Tensor) else codes.cpu().numpy()

    def inverse_transform(self, X: Data) -> Data:
        """Returns the samples ``(n, d)`` that codes stand for, c D."""
        check_is_fitted(self)
        width = len(self.components_) * (2 if self.split_sign else 1)
        codes = X if isinstance(X, Tensor) else np.asarray(X)
        if codes.ndim != 2 or codes.shape[1] != width:
            raise ValueError(f"codes have shape {tuple(codes.shape)}: pass {width} columns")
        if self.split_sign:
            codes = codes[:, : width // 2] - codes[:, width // 2 :]
        if isinstance(codes, Tensor):
            return codes @ torch.as_tensor(self.components_).to(codes)
        return codes @ self.components_

    @property
    def _n_features_out(self) -> int:
        return len(self.components_) * (2 if self.split_sign else 1)

    def _transform_alpha(self) -> float | None:
        return self.transform_alpha

    def _samples(self, X: Data, reset: bool) -> Tensor:
        """Returns what scikit-learn has checked as a tensor on the device asked for."""
        device = self.device or (X.device if isinstance(X, Tensor) else "cpu")
        array = on_host(X)
        array = validate_data(self, array, dtype=[np.float64, np.float32], order="C", reset=reset)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nothing writes to it
            return torch.from_numpy(array).to(device)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
