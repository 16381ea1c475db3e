"""Supervised pretraining (§8.7.4): what is trained before the model is trained as a whole."""

from thalweg.pretraining.greedy import greedy

__all__ = ["greedy"]
