"""Batch normalization (§8.7.1): as a function and as a module, put into a model, and folded away after training."""

from thalweg.normalization.add import add_batch_norm
from thalweg.normalization.batch_norm import Statistics, batch_norm
from thalweg.normalization.convert import convert_batch_norm
from thalweg.normalization.fold import fold_batch_norm
from thalweg.normalization.module import BatchNorm
from thalweg.normalization.population import estimate_population_statistics
from thalweg.normalization.stateless import stateless_call

__all__ = [
    "BatchNorm",
    "Statistics",
    "add_batch_norm",
    "batch_norm",
    "convert_batch_norm",
    "estimate_population_statistics",
    "fold_batch_norm",
    "stateless_call",
]
