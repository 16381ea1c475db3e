"""How a run is guided beside its optimizer: one file a guidance, all of them charged for what they evaluate.

A run's budget is its gradient evaluations. What is spent before the model's own first step, on pretraining or on a
teacher, is taken from it; a teacher's evaluation is priced by the operations that it takes, in those of the model's.
"""

from functools import cache
from importlib import import_module

from thalweg.compare.execution.guidance.guidance import Guidance, after_pretraining, repeated
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.guidances import GUIDANCES


def guidance_of(strategy: Strategy) -> Guidance:
    """Returns what guides the strategy's runs.

    >>> type(guidance_of(Strategy.parse("adam+curriculum"))).__name__
    'Curriculum'
    """
    return _guidance(strategy.guidance)


@cache
def _guidance(name: str) -> Guidance:
    if name == "none":
        return Guidance()
    entry = GUIDANCES[name]
    module, _, made_by = entry.made_by.partition(".")
    found: Guidance = getattr(import_module(f"{__name__}.{module}"), made_by)(**entry.settings)
    return found


__all__ = ["Guidance", "after_pretraining", "guidance_of", "repeated"]
