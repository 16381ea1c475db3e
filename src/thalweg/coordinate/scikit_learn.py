"""What the estimators take from scikit-learn; the names that it does not publish stand here alone."""

from typing import Any

from thalweg.extras import needs

with needs("compare", "an estimator"):
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils import check_array, check_random_state
    from sklearn.utils._param_validation import Interval, StrOptions  # else: check each setting by hand
    from sklearn.utils.validation import _check_sample_weight as check_sample_weight  # else: check_array
    from sklearn.utils.validation import check_is_fitted, validate_data


def check_params(estimator: Any) -> None:
    """Raises ValueError for the first setting out of its range. Else: scikit-learn has no public way."""
    estimator._validate_params()


__all__ = [
    "BaseEstimator",
    "ClassNamePrefixFeaturesOutMixin",
    "Interval",
    "StrOptions",
    "TransformerMixin",
    "check_array",
    "check_is_fitted",
    "check_params",
    "check_random_state",
    "check_sample_weight",
    "validate_data",
]
