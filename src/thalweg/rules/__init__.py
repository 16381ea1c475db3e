"""The update rules of §8.3 and §8.5, and of later years: pure functions over tensors, one method one file."""

from thalweg.rules.adadelta import Adadelta
from thalweg.rules.adagrad import AdaGrad
from thalweg.rules.adam import Adam, AdamW
from thalweg.rules.adan import Adan
from thalweg.rules.ademamix import AdEMAMix
from thalweg.rules.lamb import LAMB
from thalweg.rules.lars import LARS
from thalweg.rules.lion import Lion
from thalweg.rules.matrix_rule import MatrixRule, Partnered
from thalweg.rules.muon import Muon
from thalweg.rules.nadam import NAdam, NAdamW
from thalweg.rules.prodigy import Prodigy
from thalweg.rules.rmsprop import RMSProp
from thalweg.rules.rule import Rule, apply, scalars_of_step
from thalweg.rules.schedule_free import ScheduleFreeAdamW, ScheduleFreeSGD
from thalweg.rules.schedules import SCHEDULES, Schedule
from thalweg.rules.sgd import SGD
from thalweg.rules.shampoo import Shampoo
from thalweg.rules.soap import SOAP
from thalweg.rules.switches import SWITCHES, innermost, switched

# What a comparison knows by name: the rule, and the log-uniform range in which its learning rate is searched, four
# decades or so around what is published for it.
ADAMW_LRS = (1e-5, 1e-1)  # also of a partner
_OF_THE_CHAPTER: dict[str, tuple[Rule, tuple[float, float]]] = {
    "sgd": (SGD(), (1e-3, 1.0)),
    "momentum": (SGD(momentum=True), (1e-4, 1.0)),
    "nesterov": (SGD(nesterov=True), (1e-4, 1.0)),
    "adagrad": (AdaGrad(), (1e-3, 1.0)),
    "adadelta": (Adadelta(), (1e-2, 10.0)),
    "rmsprop": (RMSProp(), (1e-5, 1e-1)),
    "rmsprop-nesterov": (RMSProp(nesterov=True), (1e-6, 1e-2)),
    "adam": (Adam(), (1e-5, 1e-1)),
    "adam-uncorrected": (Adam(bias_correction=False), (1e-5, 1e-1)),
    "amsgrad": (Adam(amsgrad=True), (1e-5, 1e-1)),
    "nadam": (NAdam(), (1e-5, 1e-1)),
    "adamw": (AdamW(), (1e-5, 1e-1)),
}
_AFTER_IT: dict[str, tuple[Rule, tuple[float, float]]] = {
    "lion": (Lion(), (1e-6, 1e-2)),
    "schedule-free-sgd": (ScheduleFreeSGD(), (1e-2, 1e2)),
    "schedule-free-adamw": (ScheduleFreeAdamW(), (1e-5, 1e-1)),
    "ademamix": (AdEMAMix(), (1e-5, 1e-1)),
    "adan": (Adan(), (1e-5, 1e-1)),
    "lamb": (LAMB(), (1e-5, 1e-1)),
    "lars": (LARS(), (1e-2, 1e2)),
    "prodigy": (Prodigy(), (1e-1, 1e1)),
    "muon": (Partnered(Muon()), (1e-4, 1.0)),
    "muon-rms": (Partnered(Muon(adjust_lr_fn="match_rms_adamw")), (1e-5, 1e-1)),
    "soap": (Partnered(SOAP()), (1e-4, 1e-1)),
    "shampoo": (Partnered(Shampoo()), (1e-5, 1e-1)),
}
_NAMED = {**_OF_THE_CHAPTER, **_AFTER_IT}
RULES: dict[str, Rule] = {name: rule for name, (rule, _) in _NAMED.items()}
SPACES: dict[str, dict[str, tuple[float, float]]] = {
    name: {"lr": lrs, **({"adamw_lr": ADAMW_LRS} if isinstance(rule, Partnered) else {})}
    for name, (rule, lrs) in _NAMED.items()
}
AFTER_THE_BOOK = tuple(_AFTER_IT)

# The learning rate that a comparison tries first, where it is not the optimizer's own default.
FIRST_LR = {**dict.fromkeys(["sgd", "momentum", "nesterov"], 1e-2), "muon": 2e-2}

__all__ = [
    "ADAMW_LRS",
    "AFTER_THE_BOOK",
    "FIRST_LR",
    "LAMB",
    "LARS",
    "RULES",
    "SCHEDULES",
    "SGD",
    "SOAP",
    "SPACES",
    "SWITCHES",
    "AdEMAMix",
    "AdaGrad",
    "Adadelta",
    "Adam",
    "AdamW",
    "Adan",
    "Lion",
    "MatrixRule",
    "Muon",
    "NAdam",
    "NAdamW",
    "Partnered",
    "Prodigy",
    "RMSProp",
    "Rule",
    "Schedule",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Shampoo",
    "apply",
    "innermost",
    "scalars_of_step",
    "switched",
]
