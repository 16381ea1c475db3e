"""Lines to paste: a configuration as an optimizer in PyTorch, and as a command line of ``thalweg train``."""

import inspect
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from thalweg import optim
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.factories import PARTNERS_LR, as_arguments
from thalweg.compare.strategy.hyperparameters import OF_SCHEDULE, initial_values, schedule_of
from thalweg.compare.strategy.second_order import SECOND_ORDER
from thalweg.compare.strategy.words import axis_of, parts_of
from thalweg.compare.user_errors import LoadError
from thalweg.rules import Partnered
from thalweg.rules.schedules import SETTINGS

# The class that steps by each built-in rule, and its switches; torch's own where it steps in the same way.
FACES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "sgd": ("torch.optim.SGD", {}),
    "momentum": ("torch.optim.SGD", {}),
    "nesterov": ("torch.optim.SGD", {"nesterov": True}),
    "adagrad": ("torch.optim.Adagrad", {}),
    "adadelta": ("torch.optim.Adadelta", {}),
    "rmsprop": ("torch.optim.RMSprop", {}),
    "rmsprop-nesterov": ("optim.RMSprop", {"nesterov": True}),
    "adam": ("torch.optim.Adam", {}),
    "adam-uncorrected": ("optim.Adam", {"bias_correction": False}),
    "amsgrad": ("torch.optim.Adam", {"amsgrad": True}),
    "nadam": ("torch.optim.NAdam", {}),
    "adamw": ("torch.optim.AdamW", {}),
    "lion": ("optim.Lion", {}),
    "schedule-free-sgd": ("optim.ScheduleFreeSGD", {}),
    "schedule-free-adamw": ("optim.ScheduleFreeAdamW", {}),
    "ademamix": ("optim.AdEMAMix", {}),
    "adan": ("optim.Adan", {}),
    "lamb": ("optim.LAMB", {}),
    "lars": ("optim.LARS", {}),
    "prodigy": ("optim.Prodigy", {}),
    "muon": ("optim.Muon", {}),
    "muon-rms": ("optim.Muon", {"adjust_lr_fn": "match_rms_adamw"}),
    "soap": ("optim.SOAP", {}),
    "shampoo": ("optim.Shampoo", {}),
    "newton": ("optim.Newton", {}),
    "truncated-newton": ("optim.TruncatedNewton", {}),
    "conjugate-gradient": ("optim.ConjugateGradient", {}),
    "bfgs": ("optim.BFGS", {}),
    "lbfgs": ("optim.LBFGS", {}),
}
SWITCHED: Mapping[str, Mapping[str, Any]] = {"cautious": {"cautious": True}, "asam": {"sam_adaptive": True}}


def recipe(described: Mapping[str, Any], hyper: Mapping[str, float], steps: int, facts: Mapping[str, Any]) -> Any:
    """Returns how to train with a configuration: ``pytorch``, lines of Python, ``command``, and ``notes`` on them.

    The first two are None for a strategy of the user's own code, which alone makes its optimizer.

    Arguments:
        described: the strategy, as the design of a study says it.
        hyper: the configuration.
        steps: of a run.
        facts: ``task``, ``decay`` and ``run`` of the study.
    """
    name, task = described["name"], facts["task"]
    built_in = _built_in(described)
    given = hyper if built_in is None else built_in.stepping(hyper)
    optimizer, words, _ = parts_of(name)
    notes = []
    if built_in is not None:
        lines = _of_built_in(built_in, optimizer, words, given, described, facts["decay"])
    elif re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", optimizer):
        lines = _of_package(optimizer, {n: v for n, v in given.items() if not n.startswith(OF_SCHEDULE)})
    else:
        made_by = f"{name} is made by your own code, {described['optimizer']}"
        return {"pytorch": None, "command": None, "notes": [f"{made_by}: call it with the hyperparameters above."]}
    if scheduled := _schedule(described["schedule"], hyper, steps, PARTNERS_LR in hyper and built_in is None):
        blank = lines.index("")
        head = sorted({*lines[:blank], "import torch", "from thalweg.rules import Schedule"}, key=_import_order)
        lines = [*head, *lines[blank:], *scheduled]
    if described.get("closure"):
        size = f" of {task['batch_size']} examples" if task.get("batch_size") else ""
        notes.append(f"Each step(closure) had a large batch of {hyper['batches']:g} minibatches{size}.")
    if not facts["run"].get("task"):
        notes.append("In the command line, my.py:task stands for your task.")
    others = [word for word in words if axis_of(word) != "switch"]
    if others:
        notes.append(f"The lines in PyTorch make the optimizer alone, without {', '.join(others)}.")
    notes += _stepping(task)
    if facts["decay"] == "weights" and built_in is None:
        notes.append("Weight decay was applied to weights of two or more dimensions alone.")
    return {"pytorch": lines, "command": _command(name, built_in, hyper, steps, facts), "notes": notes}


def _built_in(described: Mapping[str, Any]) -> Strategy | None:
    """Returns the built-in strategy of the name, if it is the one that was compared; no file is read for that."""
    if parts_of(described["name"])[0] not in FACES:
        return None
    try:
        found = Strategy.parse(described["name"])
    except (LoadError, ValueError):
        return None
    return found if found.describe()["optimizer"] == described["optimizer"] else None


def _of_built_in(
    strategy: Strategy,
    optimizer: str,
    words: Sequence[str],
    given: Mapping[str, float],
    described: Mapping[str, Any],
    decay: str,
) -> list[str]:
    path, options = FACES[optimizer]
    switches = {name for word in words if axis_of(word) == "switch" for name in SWITCHED.get(word, {})}
    options = {**options, **dict.fromkeys(switches, True)}
    decays = decay == "weights" and bool(given.get("weight_decay"))
    if any(axis_of(word) == "switch" for word in words) or decays:
        path = path.removeprefix("torch.")
    options |= {"decay": "weights"} if decays else {}
    face = getattr(torch.optim if path.startswith("torch") else optim, path.rpartition(".")[2])
    usual = inspect.signature(face).parameters
    known = initial_values(strategy)
    values = {_spelled(name): value for name, value in given.items() if name in known}
    searched = {_spelled(name).partition(".")[0] for name in described["space"]}
    arguments = {
        name: _like(usual[name].default if name in usual else None, value)
        for name, value in as_arguments(values).items()
        if name == "lr" or name in searched or name not in usual or usual[name].default != value
    }
    arguments |= {name: value for name, value in options.items() if name not in usual or usual[name].default != value}
    if optimizer in SECOND_ORDER:
        arguments = {n: int(v) if n in strategy.whole else v for n, v in arguments.items()}
    head = ["import torch"] if path.startswith("torch") else ["from thalweg import optim"]
    params = "optim.matrix_groups(model)" if isinstance(strategy.rule, Partnered) else "model.parameters()"
    return [*head, "", f"optimizer = {path}({', '.join([params, *_written(arguments)])})"]


def _of_package(path: str, given: Mapping[str, float]) -> list[str]:
    """Returns the lines for an optimizer of an installed package; one of matrices steps the hidden ones alone."""
    module = path.rpartition(".")[0]
    head = [f"import {'torch' if module.startswith('torch.') else module}"]
    if PARTNERS_LR not in given:
        return [*head, "", f"optimizer = {path}({', '.join(['model.parameters()', *_written(as_arguments(given))])})"]
    own = {name: value for name, value in given.items() if name != PARTNERS_LR}
    return [
        *head,
        "from thalweg import optim",
        "",
        "roles = optim.parameter_roles(model)",
        'hidden = [p for name, p in model.named_parameters() if roles[name] == "hidden"]',
        'others = [p for name, p in model.named_parameters() if roles[name] != "hidden"]',
        f"optimizer = {path}({', '.join(['hidden', *_written(as_arguments(own))])})",
        f"adamw = optim.AdamW(others, lr={given[PARTNERS_LR]!r})",
    ]


def _schedule(name: str, hyper: Mapping[str, float], steps: int, has_second: bool) -> list[str]:
    schedule = schedule_of(name, hyper)
    if name == "constant" and not schedule.warmup:
        return []
    given = [f"{setting}={getattr(schedule, setting)!r}" for setting in SETTINGS[schedule.shape]]
    makers = {"optimizer": "scheduler", **({"adamw": "adamw_scheduler"} if has_second else {})}
    return [
        "factor = Schedule(" + ", ".join([f'"{schedule.shape}"', *given]) + ")",
        *(
            f"{made} = torch.optim.lr_scheduler.LambdaLR({of}, lambda step: factor(step, {steps}))"
            for of, made in makers.items()
        ),
    ]


def _import_order(line: str) -> tuple[bool, str]:
    return line.startswith("from"), line


def _stepping(task: Mapping[str, Any]) -> list[str]:
    """Returns what else a step did, which neither the optimizer nor a command line says."""
    found = []
    if clip := task.get("clip_norm"):
        found.append(
            f"The gradient was clipped to a norm of {clip:g}: torch.nn.utils.clip_grad_norm_ before each step."
        )
    if (precision := task.get("precision")) and precision != "fp32":
        found.append(f"The model ran in {precision}, by torch.autocast.")
    if count := task.get("accumulate"):
        found.append(f"A step took the mean gradient of {count} minibatches.")
    if task.get("groups") or task.get("no_decay"):
        found.append("The task has groups of parameters with settings of their own.")
    return found


def _command(
    name: str, built_in: Strategy | None, hyper: Mapping[str, float], steps: int, facts: Mapping[str, Any]
) -> str:
    task, usual = facts["task"], {} if built_in is None else built_in.default_configuration()
    words = ["thalweg", "train", facts["run"].get("task") or "my.py:task", "--strategy", name, "--steps", str(steps)]
    for key, value in hyper.items():
        if key == "lr" or usual.get(key) != value:
            words += ["--set", f"{key}={value!r}"]
    words += ["--decay", "weights"] if facts["decay"] == "weights" else []
    words += ["--no-decay"] if task.get("no_decay") is True else []
    words += ["--accumulate", str(task["accumulate"])] if task.get("accumulate") else []
    words += ["--precision", "bfloat16"] if task.get("precision") == "bf16" else []
    return shlex.join(words)


def _spelled(name: str) -> str:
    """Returns a rule's name of a hyperparameter as that of a part of an argument: ``beta1`` is ``betas.0``."""
    found = re.fullmatch(r"(\w*)beta(\d)", name)
    return f"{found[1]}betas.{int(found[2]) - 1}" if found else name


def _like(usual: Any, value: Any) -> Any:
    """Returns a value as an argument takes it: as a whole number where its usual value is one."""
    is_whole = isinstance(usual, int) and not isinstance(usual, bool) and isinstance(value, float)
    return int(value) if is_whole and value.is_integer() else value


def _written(arguments: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value!r}" for name, value in arguments.items()]
