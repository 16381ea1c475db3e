"""Models that are easy to train (§8.7.5): shortcuts, auxiliary heads, and units that are linear over large regions."""

from thalweg.architecture.auxiliary_heads import AuxiliaryHeads
from thalweg.architecture.maxout import Maxout, maxout
from thalweg.architecture.residual import Residual

__all__ = ["AuxiliaryHeads", "Maxout", "Residual", "maxout"]
