"""The training strategies of chapter 8 of the Deep Learning book, and a comparison of them on your own model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from thalweg import adapters
    from thalweg.compare.comparison import Comparison
    from thalweg.compare.execution.loop.run import Run
    from thalweg.compare.gate.result import Gate
    from thalweg.compare.gate.run import gate
    from thalweg.compare.gate.side import Recipe
    from thalweg.compare.ranges import OneOf, Range
    from thalweg.compare.run import compare
    from thalweg.compare.strategy import Strategy
    from thalweg.compare.suite.suite import suite
    from thalweg.compare.task import GuidanceInputs, Task
    from thalweg.compare.task.loop import TrainingLoop
    from thalweg.diagnosis.diagnose import diagnose
    from thalweg.second_order.minimize import minimize

__all__ = [
    "Comparison",
    "Gate",
    "GuidanceInputs",
    "OneOf",
    "Range",
    "Recipe",
    "Run",
    "Strategy",
    "Task",
    "TrainingLoop",
    "__version__",
    "adapters",
    "compare",
    "diagnose",
    "gate",
    "minimize",
    "suite",
]

# Loaded on first use, so that importing thalweg costs little more than importing torch.
_HOMES = {
    "Comparison": "thalweg.compare.comparison",
    "Gate": "thalweg.compare.gate.result",
    "GuidanceInputs": "thalweg.compare.task",
    "OneOf": "thalweg.compare.ranges",
    "Range": "thalweg.compare.ranges",
    "Recipe": "thalweg.compare.gate.side",
    "Run": "thalweg.compare.execution.loop.run",
    "Strategy": "thalweg.compare.strategy",
    "Task": "thalweg.compare.task",
    "TrainingLoop": "thalweg.compare.task.loop",
    "diagnose": "thalweg.diagnosis.diagnose",
    "gate": "thalweg.compare.gate.run",
    "minimize": "thalweg.second_order.minimize",
    "suite": "thalweg.compare.suite.suite",
}


def __getattr__(name: str) -> Any:
    if name in ("adapters", "compare"):  # packages, of which the second can be called
        return import_module(f"thalweg.{name}")
    if name == "Guides":
        return import_module("thalweg.compare.task").Guides
    if name not in _HOMES:
        raise AttributeError(f"module 'thalweg' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
