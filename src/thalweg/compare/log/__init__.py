"""Records of a study in TensorBoard, MLflow, Weights & Biases; each is imported when asked for."""

from thalweg.compare.log.log import Log, Logging, name_of
from thalweg.compare.log.tracker import TRACKERS, Run, Tracker, tracker_of

__all__ = ["TRACKERS", "Log", "Logging", "Run", "Tracker", "name_of", "tracker_of"]
