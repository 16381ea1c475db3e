"""The one training loop: :func:`train` runs stages in order, and resumes bit for bit from what it wrote."""

from thalweg.training.checkpoint import CheckpointError
from thalweg.training.history import History
from thalweg.training.run import Diverged
from thalweg.training.train import Watch, train

__all__ = ["CheckpointError", "Diverged", "History", "Watch", "train"]
