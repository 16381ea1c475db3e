"""What the estimators take from scikit-learn; the names that it does not publish stand here alone."""

from thalweg.extras import needs

with needs("compare", "an estimator"):
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils import check_array, check_random_state
    from sklearn.utils._param_validation import Interval, StrOptions
    from sklearn.utils.validation import _check_sample_weight as check_sample_weight
    from sklearn.utils.validation import check_is_fitted, validate_data

__all__ = [
    "BaseEstimator",
    "ClassNamePrefixFeaturesOutMixin",
    "Interval",
    "StrOptions",
    "TransformerMixin",
    "check_array",
    "check_is_fitted",
    "check_random_state",
    "check_sample_weight",
    "validate_data",
]
