"""Records of a study in TensorBoard, MLflow, Weights & Biases; each is imported when asked for."""

from thalweg.compare.log.log import Log, Logging, name_of
from thalweg.compare.log.tracker import TRACKERS, Run, Tracker, tracker_of
from thalweg.compare.log.training import log_training

__all__ = ["TRACKERS", "Log", "Logging", "Run", "Tracker", "log_training", "name_of", "tracker_of"]
