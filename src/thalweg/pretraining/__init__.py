"""Supervised pretraining (§8.7.4): what is trained before the model is trained as a whole."""

from thalweg.pretraining.greedy import greedy
from thalweg.pretraining.transfer import transfer
from thalweg.pretraining.weights import load_weights, read_weights

__all__ = ["greedy", "load_weights", "read_weights", "transfer"]
