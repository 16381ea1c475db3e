"""One flat vector seen as named parameters, lanes of models, seeded generators."""

from thalweg.tensors.flat import Layout
from thalweg.tensors.seeds import derive_seed, generator

__all__ = ["Layout", "derive_seed", "generator"]
