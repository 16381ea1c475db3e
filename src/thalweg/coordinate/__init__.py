"""Coordinate descent (§8.7.2): sparse codes and dictionaries, and any function a block at a time."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from thalweg.coordinate.atoms import update_atoms
from thalweg.coordinate.descent import CoordinateDescent, DescentResult, Sweep
from thalweg.coordinate.duality import duality_gap
from thalweg.coordinate.lasso import Codes, lasso
from thalweg.coordinate.minimizers import Block, ClosedForm, NewtonStep, Steps
from thalweg.coordinate.omp import orthogonal_matching_pursuit
from thalweg.coordinate.patches import from_patches, patches
from thalweg.coordinate.plots import mosaic, plot_atoms, plot_cost, plot_sample

if TYPE_CHECKING:
    from thalweg.coordinate.dictionary_learning import DictionaryLearning
    from thalweg.coordinate.minibatch import MiniBatchDictionaryLearning
    from thalweg.coordinate.sparse_coder import SparseCoder

__all__ = [
    "Block",
    "ClosedForm",
    "Codes",
    "CoordinateDescent",
    "DescentResult",
    "DictionaryLearning",
    "MiniBatchDictionaryLearning",
    "NewtonStep",
    "SparseCoder",
    "Steps",
    "Sweep",
    "duality_gap",
    "from_patches",
    "lasso",
    "mosaic",
    "orthogonal_matching_pursuit",
    "patches",
    "plot_atoms",
    "plot_cost",
    "plot_sample",
    "update_atoms",
]

# The estimators are loaded when first used: they alone need scikit-learn, which is an extra.
_ESTIMATORS = {
    "DictionaryLearning": "thalweg.coordinate.dictionary_learning",
    "MiniBatchDictionaryLearning": "thalweg.coordinate.minibatch",
    "SparseCoder": "thalweg.coordinate.sparse_coder",
}


def __getattr__(name: str) -> Any:
    if name not in _ESTIMATORS:
        raise AttributeError(f"module 'thalweg.coordinate' has no attribute {name!r}")
    return getattr(import_module(_ESTIMATORS[name]), name)
