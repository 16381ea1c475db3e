"""Continuation methods (§8.7.6): costs of rising difficulty, each begun where the last one was solved."""

from thalweg.continuation.continuation import Adaptive, Continuation, Fixed
from thalweg.continuation.falling import Falling
from thalweg.continuation.input_noise import InputNoise
from thalweg.continuation.morphing import Morph, Morphing, morph, unmorph
from thalweg.continuation.smoothing import GaussianSmoothing
from thalweg.continuation.temperature import Temperature

__all__ = [
    "Adaptive",
    "Continuation",
    "Falling",
    "Fixed",
    "GaussianSmoothing",
    "InputNoise",
    "Morph",
    "Morphing",
    "Temperature",
    "morph",
    "unmorph",
]
