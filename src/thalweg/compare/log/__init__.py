"""Records of a study in TensorBoard, MLflow, Weights & Biases; each is imported when asked for."""

from thalweg.compare.log.log import Log, Logging, name_of
from thalweg.compare.log.tracker import TRACKERS, TrackedRun, Tracker, tracker_of
from thalweg.compare.log.training import log_training
from thalweg.tensors.renamed import former_attributes

__all__ = ["TRACKERS", "Log", "Logging", "TrackedRun", "Tracker", "log_training", "name_of", "tracker_of"]

__getattr__ = former_attributes(__name__, {"Run": "TrackedRun"})
