"""What ``--tune more`` tunes of each built-in strategy beside its learning rate.

Which hyperparameters matter follows Choi et al. 2019 (arXiv 1910.05446), who tune the momentum and all of Adam's, and
Godbole et al. 2023 (the tuning playbook), who tune β₁ before β₂. Ranges of β₁, momentum and decoupled weight decay are
those of AlgoPerf (Dahl et al. 2023, arXiv 2306.07179), as its baselines state them for AdamW, NAdamW and Nesterov;
Adadelta's are the values that Zeiler 2012 (arXiv 1212.5701) tries. The others are a decade or so around the defaults.
"""

from collections.abc import Mapping

from thalweg.compare.ranges import Bounds, Range
from thalweg.compare.strategy.hyperparameters import Searched
from thalweg.rules import RULES

_MOMENTUM = Range(0.7, 0.995, "one-minus")
_BETA1, _BETA2 = Range(0.5, 0.98, "one-minus"), Range(0.9, 0.9999, "one-minus")
_FADING = Range(0.9, 0.999, "one-minus")

MORE: Mapping[str, Mapping[str, Bounds]] = {
    "momentum": {"momentum": _MOMENTUM},
    "nesterov": {"momentum": _MOMENTUM},
    "adagrad": {"eps": (1e-10, 1e-3)},
    "adadelta": {"eps": (1e-8, 1e-2), "rho": Range(0.9, 0.99, "one-minus")},
    "rmsprop": {"alpha": _FADING},
    "rmsprop-nesterov": {"alpha": _FADING, "momentum": _MOMENTUM},
    "adam": {"beta1": _BETA1, "beta2": _BETA2},
    "adam-uncorrected": {"beta1": _BETA1, "beta2": _BETA2},
    "amsgrad": {"beta1": _BETA1, "beta2": _BETA2},
    "nadam": {"beta1": Range(0.9, 0.996, "one-minus"), "beta2": _BETA2},
    "adamw": {"beta1": _BETA1, "weight_decay": (5e-3, 1.0)},
    "muon": {"momentum": _MOMENTUM, "weight_decay": (1e-2, 1.0)},
    "muon-rms": {"momentum": _MOMENTUM, "weight_decay": (1e-2, 1.0)},
    "soap": {"beta1": _FADING, "beta2": _FADING},
    "shampoo": {"beta1": _BETA1, "beta2": _BETA2},
}


def more_ranges(strategy: Searched) -> dict[str, Bounds]:
    """Returns the ranges that are published for a strategy, without what it searches already, or has set otherwise."""
    rule = strategy.rule
    name = next((name for name, known in RULES.items() if known == rule), "")
    return {
        own: bounds
        for own, bounds in MORE.get(name, {}).items()
        if rule is not None and own not in strategy.space and strategy.defaults[own] == rule.defaults[own]
    }
