"""The one training loop: :func:`train` runs stages in order, and resumes bit for bit from what it wrote."""

from thalweg.tensors.renamed import former_attributes
from thalweg.training.checkpoint import CheckpointError
from thalweg.training.history import History
from thalweg.training.run import Diverged
from thalweg.training.train import TrainingCallback, train

__all__ = ["CheckpointError", "Diverged", "History", "TrainingCallback", "train"]

__getattr__ = former_attributes(__name__, {"Watch": "TrainingCallback"})
