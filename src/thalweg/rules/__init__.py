"""The update rules of §8.3 and §8.5: pure functions over tensors, one method one file."""

from thalweg.rules.adadelta import Adadelta
from thalweg.rules.adagrad import AdaGrad
from thalweg.rules.adam import Adam, AdamW
from thalweg.rules.nadam import NAdam, NAdamW
from thalweg.rules.rmsprop import RMSProp
from thalweg.rules.rule import Rule, apply, scalars_of_step
from thalweg.rules.schedules import SCHEDULES, Schedule
from thalweg.rules.sgd import SGD

RULES: dict[str, Rule] = {
    "sgd": SGD(),
    "momentum": SGD(momentum=True),
    "nesterov": SGD(nesterov=True),
    "adagrad": AdaGrad(),
    "adadelta": Adadelta(),
    "rmsprop": RMSProp(),
    "rmsprop-nesterov": RMSProp(nesterov=True),
    "adam": Adam(),
    "adam-uncorrected": Adam(bias_correction=False),
    "amsgrad": Adam(amsgrad=True),
    "nadam": NAdam(),
    "adamw": AdamW(),
}

# Log-uniform search ranges, the learning rate first: four decades or so around what is published for each.
SPACES: dict[str, dict[str, tuple[float, float]]] = {
    "sgd": {"lr": (1e-3, 1.0)},
    "momentum": {"lr": (1e-4, 1.0)},
    "nesterov": {"lr": (1e-4, 1.0)},
    "adagrad": {"lr": (1e-3, 1.0)},
    "adadelta": {"lr": (1e-2, 10.0)},
    "rmsprop": {"lr": (1e-5, 1e-1)},
    "rmsprop-nesterov": {"lr": (1e-6, 1e-2)},
    "adam": {"lr": (1e-5, 1e-1)},
    "adam-uncorrected": {"lr": (1e-5, 1e-1)},
    "amsgrad": {"lr": (1e-5, 1e-1)},
    "nadam": {"lr": (1e-5, 1e-1)},
    "adamw": {"lr": (1e-5, 1e-1)},
}

__all__ = [
    "RULES",
    "SCHEDULES",
    "SGD",
    "SPACES",
    "AdaGrad",
    "Adadelta",
    "Adam",
    "AdamW",
    "NAdam",
    "NAdamW",
    "RMSProp",
    "Rule",
    "Schedule",
    "apply",
    "scalars_of_step",
]
