"""What ``--tune more`` tunes of each built-in strategy beside its learning rate.

Which hyperparameters matter follows Choi et al. 2019 (arXiv 1910.05446), who tune the momentum and all of Adam's, and
Godbole et al. 2023 (the tuning playbook), who tune β₁ before β₂. Ranges of β₁, momentum and decoupled weight decay are
those of AlgoPerf (Dahl et al. 2023, arXiv 2306.07179), as its baselines state them for AdamW, NAdamW and Nesterov;
Adadelta's are the values that Zeiler 2012 (arXiv 1212.5701) tries. The others are a decade or so around the defaults.

Of the methods that came after the book: Lion's weight decay is AdamW's times ten, as its authors advise (arXiv
2302.06675); schedule-free's β is within what its authors try (arXiv 2405.15682); AdEMAMix's β₃ and α are those of
section 3 of arXiv 2409.03137; Prodigy's factor is that of its package's guide; SAM's ρ is from Foret et al. 2020 and
Kwon et al. 2021, Lookahead's k and α from Zhang et al. 2019.
"""

from collections.abc import Mapping

from thalweg.compare.ranges import Bounds, OneOf, Range
from thalweg.compare.strategy.hyperparameters import Searched
from thalweg.rules import RULES, innermost

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
    "lion": {"beta1": _BETA1, "weight_decay": (5e-2, 10.0)},
    "schedule-free-sgd": {"momentum": Range(0.9, 0.98, "one-minus")},
    "schedule-free-adamw": {"beta1": Range(0.9, 0.98, "one-minus"), "weight_decay": (5e-3, 1.0)},
    "ademamix": {"alpha": Range(4.0, 10.0, "linear"), "beta3": Range(0.999, 0.9999, "one-minus")},
    "adan": {"beta1": Range(0.9, 0.99, "one-minus"), "weight_decay": (5e-3, 1.0)},
    "lamb": {"beta1": _BETA1, "weight_decay": (5e-3, 1.0)},
    "lars": {"momentum": _MOMENTUM, "weight_decay": (1e-5, 1e-2)},
    "prodigy": {"d_coef": (0.5, 2.0)},
    "muon": {"momentum": _MOMENTUM, "weight_decay": (1e-2, 1.0)},
    "muon-rms": {"momentum": _MOMENTUM, "weight_decay": (1e-2, 1.0)},
    "soap": {"beta1": _FADING, "beta2": _FADING},
    "shampoo": {"beta1": _BETA1, "beta2": _BETA2},
}
# Of what is switched on around a rule, by the hyperparameter.
MORE_OF_SWITCHES: Mapping[str, Bounds] = {
    "mars_gamma": (5e-3, 1e-1),
    "lookahead_steps": OneOf((5.0, 10.0)),
    "lookahead_alpha": OneOf((0.2, 0.5, 0.8)),
    "sam_rho": (1e-2, 2.0),
}


def more_ranges(strategy: Searched) -> dict[str, Bounds]:
    """Returns the ranges that are published for a strategy, without what it searches already, or has set otherwise."""
    rule = strategy.rule
    if rule is None:
        return {}
    name = next((name for name, known in RULES.items() if known == innermost(rule)), "")
    switched = {own: bounds for own, bounds in MORE_OF_SWITCHES.items() if own in rule.defaults}
    return {
        own: bounds
        for own, bounds in {**MORE.get(name, {}), **switched}.items()
        if own not in strategy.space and strategy.defaults[own] == rule.defaults[own]
    }
