"""What training consists of: a :class:`Stage` is a stretch of it, a :class:`Plan` is stages in order.

``thalweg.training.train`` runs them; a stage is plain data, which a loop of your own can read as well.
"""

from thalweg.stages.batches import Batches
from thalweg.stages.early_stopping import EarlyStopping
from thalweg.stages.objectives import Around, Measures, supervised
from thalweg.stages.stage import Plan, Stage

__all__ = ["Around", "Batches", "EarlyStopping", "Measures", "Plan", "Stage", "supervised"]
