"""Initialization (§8.4): in-place functions for one weight or bias, and :func:`initialize` for a model."""

from thalweg.initialization.biases import gate_biases_, rectifier_bias_
from thalweg.initialization.data_driven import ScaleReport, scale_by_data
from thalweg.initialization.following import following
from thalweg.initialization.gains import gain_of, gain_of_function
from thalweg.initialization.model import initialize
from thalweg.initialization.orthogonal import delta_orthogonal_, identity_, orthogonal_
from thalweg.initialization.output_bias import output_bias_from
from thalweg.initialization.schemes import SCHEMES
from thalweg.initialization.sparse import sparse_
from thalweg.initialization.table import InitializationTable
from thalweg.initialization.weights import (
    constant_,
    fans,
    glorot_normal_,
    glorot_uniform_,
    he_,
    too_large_,
    uniform_fan_in_,
)

__all__ = [
    "SCHEMES",
    "InitializationTable",
    "ScaleReport",
    "constant_",
    "delta_orthogonal_",
    "fans",
    "following",
    "gain_of",
    "gain_of_function",
    "gate_biases_",
    "glorot_normal_",
    "glorot_uniform_",
    "he_",
    "identity_",
    "initialize",
    "orthogonal_",
    "output_bias_from",
    "rectifier_bias_",
    "scale_by_data",
    "sparse_",
    "too_large_",
    "uniform_fan_in_",
]
