"""How parameters start (§8.4): in-place functions for one weight, and :func:`initialize` for a model."""

from thalweg.initialization.constant import constant_
from thalweg.initialization.fans import fans
from thalweg.initialization.glorot import glorot_normal_, glorot_uniform_
from thalweg.initialization.he import he_
from thalweg.initialization.model import SCHEMES, initialize
from thalweg.initialization.orthogonal import orthogonal_
from thalweg.initialization.sparse import sparse_
from thalweg.initialization.too_large import too_large_
from thalweg.initialization.uniform_fan_in import uniform_fan_in_

__all__ = [
    "SCHEMES",
    "constant_",
    "fans",
    "glorot_normal_",
    "glorot_uniform_",
    "he_",
    "initialize",
    "orthogonal_",
    "sparse_",
    "too_large_",
    "uniform_fan_in_",
]
