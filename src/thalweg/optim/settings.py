"""What the settings of an optimizer are and may be: in a constructor, an added group, a loaded state, and at a step."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, TypedDict

from torch import Tensor

from thalweg.averaging import Average
from thalweg.optim.decay import Decay, check_decay
from thalweg.optim.implementations import Engine
from thalweg.rules.muon import ITERATIONS, SCALINGS
from thalweg.rules.rule import Rule
from thalweg.rules.shampoo import GRAFTS
from thalweg.rules.switches import switched
from thalweg.tensors.ranges import is_whole

ENGINES = ("auto", "foreach", "compiled", "triton")
SEARCHES = ("strong_wolfe", "hager_zhang", "backtracking", None)

# Key of a group -> (torch's words for it, largest value); none may be negative.
_RANGES = {
    "lr": ("learning rate", math.inf),
    "eps": ("epsilon value", math.inf),
    "weight_decay": ("weight_decay value", math.inf),
    "momentum": ("momentum value", math.inf),
    "alpha": ("alpha value", math.inf),
    "rho": ("rho value", 1.0),
    "lr_decay": ("lr_decay value", math.inf),
    "initial_accumulator_value": ("initial_accumulator_value value", math.inf),
    "momentum_decay": ("momentum_decay value", math.inf),
    "mars_gamma": ("mars_gamma value", math.inf),
    "lookahead_alpha": ("lookahead_alpha value", 1.0),
    "sam_rho": ("sam_rho value", math.inf),
    "warmup_steps": ("warmup_steps value", math.inf),
    "r": ("r value", math.inf),
    "trust_coefficient": ("trust_coefficient value", math.inf),
    "d0": ("d0 value", math.inf),
    "d_coef": ("d_coef value", math.inf),
    "growth_rate": ("growth_rate value", math.inf),
    "alpha_warmup": ("alpha_warmup value", math.inf),
    "beta3_warmup": ("beta3_warmup value", math.inf),
    "weight_lr_power": ("weight_lr_power value", math.inf),
    "shampoo_beta": ("shampoo_beta value", 1.0),
    "graft_eps": ("graft_eps value", math.inf),
    "adamw_lr": ("adamw_lr value", math.inf),
    "adamw_eps": ("adamw_eps value", math.inf),
    "adamw_weight_decay": ("adamw_weight_decay value", math.inf),
}
_CHOICES: dict[str, tuple[str | None, ...]] = {
    "adjust_lr_fn": (None, *SCALINGS),
    "ns_dtype": ITERATIONS,
    "graft": GRAFTS,
}
_AT_LEAST_1 = ("ns_steps", "precondition_frequency", "max_precond_dim")  # whole numbers
_ONE_RULE = (
    "nesterov",
    "amsgrad",
    "bias_correction",
    "decoupled_weight_decay",
    "centered",
    "eps_inside_sqrt",
    "safeguard_warmup",
)
_FLAGS = ("maximize", "skip_nonfinite", "capturable", "differentiable", *_ONE_RULE)
_WHOLE = ("average", "norm_in_backward")  # of the optimizer, not of a group
_NOT_OF_A_GROUP = ("self", "__class__", "params", "options", "average", "process_group")


class Options(TypedDict, total=False):
    """Options that every optimizer with an update rule has in addition to the arguments of its method.

    Attributes:
        clip_norm: largest allowed norm of the gradient over all groups; None disables clipping.
        skip_nonfinite: whether a step whose gradient contains NaN or infinity changes nothing and is counted.
        average: an :class:`thalweg.averaging.Average` of the parameters that each step updates.
        norm_in_backward: has no effect and will be removed: the norm is that of the gradient at the step, whatever was
            written into it since the backward pass.
        decay: the parameters to which weight decay applies: ``"all"`` (the default, as in torch's own optimizers), or
            ``"weights"``, which are tensors of two dimensions or more, so that biases and the scales of normalizations
            are excluded; :func:`thalweg.optim.no_decay_groups` does the same for any optimizer.
        foreach, fused: torch's switches, which are requests for an engine here.
        capturable, differentiable: torch's, see :class:`thalweg.optim.RuleOptimizer`.
        cautious: whether only those coordinates move that go against the gradient, see :mod:`thalweg.rules.cautious`.
        mars_gamma: γ of a correction that lessens the gradient's variance, 0.025 in the paper, see
            :mod:`thalweg.rules.mars`; None for none.
        lookahead_steps: every how many steps the parameters meet slow ones, 5 to 10 in the paper, see
            :mod:`thalweg.rules.lookahead`; None for never. ``lookahead_alpha``, by default 0.5, is how far the slow
            ones go.
        sam_rho: how far uphill the gradient is taken, 0.05 in the paper, see :mod:`thalweg.rules.sam`; None for not. A
            step evaluates its closure twice. ``sam_adaptive`` scales the way by the parameters; ρ is then 0.5 or more.
    """

    clip_norm: float | None
    skip_nonfinite: bool
    norm_in_backward: bool
    average: Average | None
    decay: Decay
    foreach: bool | None
    fused: bool | None
    capturable: bool
    differentiable: bool
    cautious: bool
    mars_gamma: float | None
    lookahead_steps: int | None
    lookahead_alpha: float
    sam_rho: float | None
    sam_adaptive: bool


# What a group has of them, and how many of its steps were skipped.
OPTIONS: dict[str, Any] = {
    "clip_norm": None,
    "skip_nonfinite": False,
    "decay": "all",
    "skipped": 0,
    "foreach": None,
    "fused": None,
    "capturable": False,
    "differentiable": False,
}


SWITCHED_BY = ("cautious", "mars_gamma", "lookahead_steps", "sam_rho")  # with their own numbers in the group
_OF_SWITCHES = (*SWITCHED_BY, "lookahead_alpha", "sam_adaptive")


def switches_of(options: Options) -> dict[str, Any]:
    """Returns what a group has of the options that switch something on around the rule: nothing where none does.

    Raises:
        ValueError: what is switched on does not go with another option.
    """
    given: dict[str, Any] = {name: options[name] for name in _OF_SWITCHES if options.get(name)}  # type: ignore[literal-required]
    if "lookahead_steps" in given:
        given.setdefault("lookahead_alpha", 0.5)
    for name, needed in (("lookahead_alpha", "lookahead_steps"), ("sam_adaptive", "sam_rho")):
        if name in given and needed not in given:
            raise ValueError(f"{name} has no effect without {needed}: give it too")
    if "sam_rho" in given and options.get("skip_nonfinite"):
        raise ValueError("sam_rho does not support skip_nonfinite: half a step cannot be skipped")
    return given


def with_switches(rule: Rule, group: Mapping[str, Any]) -> Rule:
    """Returns the rule with what a group's settings switch on around it, unless they are the rule's own."""
    words = [name.partition("_")[0] for name in SWITCHED_BY if group.get(name) and name not in rule.defaults]
    if not words:
        return rule
    return switched(rule, ["asam" if word == "sam" and group.get("sam_adaptive") else word for word in words])


def settings_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a group's settings among the arguments of an optimizer's constructor, as ``locals()`` gives them there.

    >>> settings_of({"self": None, "params": [], "lr": 0.1, "maximize": False, "options": {}})
    {'lr': 0.1, 'maximize': False}
    """
    return {name: value for name, value in arguments.items() if name not in _NOT_OF_A_GROUP}


def is_number(value: Any) -> bool:
    """Says whether a setting is a real number, or a tensor of one.

    >>> import torch
    >>> is_number(0.1), is_number(torch.tensor([0.1])), is_number("0.1"), is_number(None)
    (True, True, False, False)
    """
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex()
    return isinstance(value, Real)


def engine_of(engine: Engine, options: Options) -> Engine:
    """Returns the engine that is asked for, in this library's words or in torch's."""
    unknown = set(options) - set(Options.__annotations__)
    if unknown:
        raise TypeError(f"unexpected keyword argument {min(unknown)!r}")
    if options.get("fused") and options.get("differentiable"):
        raise RuntimeError("`fused` does not support `differentiable`")
    if options.get("fused") and options.get("foreach"):
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
    given = [name for name in ("clip_norm", "skip_nonfinite", "average") if options.get(name)]
    if options.get("differentiable") and given:
        raise ValueError(f"differentiable=True does not support {given[0]}: clip or average in the graph yourself")
    if engine != "auto":
        return engine
    return "compiled" if options.get("fused") else "foreach" if options.get("foreach") else "auto"


def check_settings(group: Mapping[str, Any], betas: int = 2) -> None:
    """Raises ValueError for the first setting of a group, as far as it has them, that no step can be taken with.

    ``betas`` is how many numbers the group's ``betas`` are.
    """
    lr = group.get("lr")
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    for key, (words, most) in _RANGES.items():
        if key in group and not (is_number(group[key]) and 0 <= group[key] <= most):
            raise ValueError(f"Invalid {words}: {group[key]}")
    if not (is_number(share := group.get("dampening", 0.0)) and math.isfinite(share)):
        raise ValueError(f"Invalid dampening value: {share}")
    steps = group.get("lookahead_steps", 1)
    if not (is_whole(steps, 1) or (isinstance(steps, float) and steps.is_integer() and steps >= 1)):
        raise ValueError(f"Invalid lookahead_steps value: {steps}: give a whole number of at least 1")
    _check_betas(group, "betas", betas)
    _check_betas(group, "adamw_betas", 2)
    _check_matrix_settings(group)
    if (
        "ns_steps" not in group
        and group.get("nesterov")
        and (group.get("momentum", 1) <= 0 or group.get("dampening", 0) != 0)
    ):
        raise ValueError("Nesterov momentum requires a momentum and zero dampening")
    for key in _FLAGS:
        if key in group and group[key] not in (True, False):
            raise ValueError(f"Invalid {key} value: {group[key]!r}: give True or False")
    check_options(group)


def check_step_settings(group: Mapping[str, Any]) -> None:
    """Raises ValueError for the first setting of a closure optimizer's steps that is out of its range."""
    for name in ("tolerance_grad", "tolerance_change"):
        if not is_number(group[name]) or math.isnan(group[name]):
            raise ValueError(f"Invalid {name}: {group[name]}")
    for name, least in (("max_iter", 1), ("max_eval", 2)):
        if group[name] is not None and not is_whole(group[name], least):
            raise ValueError(f"Invalid {name}: {group[name]}: give a whole number of at least {least}")
    if group.get("line_search_fn") not in SEARCHES:
        raise ValueError(
            f"Invalid line_search_fn: {group['line_search_fn']!r}: choose strong_wolfe, hager_zhang, "
            "backtracking or None"
        )


def check_options(group: Mapping[str, Any]) -> None:
    """Raises ValueError for an engine, a decay or a clip_norm that there is not; quick enough for each step."""
    engine, decay, clip_norm = group.get("engine", "auto"), group.get("decay", "all"), group.get("clip_norm")
    if engine not in ENGINES:
        raise ValueError(f"Invalid engine: {engine!r}: choose auto, foreach, compiled or triton")
    check_decay(decay)
    if clip_norm is not None and not (is_number(clip_norm) and clip_norm > 0):
        raise ValueError(f"Invalid clip_norm value: {clip_norm}: give a number above 0, or None")


def check_added(group: Mapping[str, Any]) -> None:
    """Raises ValueError for what a group of its own cannot have."""
    for key in _WHOLE:
        if key in group:
            raise ValueError(f"{key} belongs to the whole optimizer: pass it to the constructor, not in a group")


def _check_matrix_settings(group: Mapping[str, Any]) -> None:
    for key, words in _CHOICES.items():
        if key in group and group[key] not in words:
            raise ValueError(f"Invalid {key}: {group[key]!r}: choose {', '.join(map(str, words))}")
    for key in _AT_LEAST_1:
        if key in group and not is_whole(group[key], 1):
            raise ValueError(f"Invalid {key}: {group[key]}: give a whole number of at least 1")
    abc = group.get("ns_coefficients", (1, 1, 1))
    if not (isinstance(abc, (tuple, list)) and len(abc) == 3 and all(map(is_number, abc))):
        raise ValueError(f"Invalid ns_coefficients: {abc!r}: give three numbers")


def _check_betas(group: Mapping[str, Any], key: str, count: int) -> None:
    betas = group.get(key, (0.0,) * count)
    if not (isinstance(betas, (tuple, list)) and len(betas) == count):
        raise ValueError(f"Invalid {key}: {betas!r}: give {'two' if count == 2 else 'three'} numbers")
    if len({isinstance(beta, Tensor) for beta in betas}) > 1:
        raise ValueError(f"{key} must be either both floats or both Tensors")
    named = [(f"parameter at index {i}", beta) for i, beta in enumerate(betas)]
    for words, beta in [*named, *((name, group[name]) for name in ("beta1", "beta2", "beta3") if name in group)]:
        sums = "graft" in group and words == "parameter at index 1" and key == "betas" and beta == 1
        if not sums and not (is_number(beta) and 0.0 <= beta < 1.0):
            raise ValueError(f"Invalid beta {words}: {beta}")
