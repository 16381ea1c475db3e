"""How a run is guided beside its optimizer: one file a guidance, all of them charged for what they evaluate.

A run's budget is its gradient evaluations. What is spent before the model's own first step, on pretraining or on a
teacher, is taken from it; a teacher's evaluation is priced by the operations that it takes, in those of the model's.
"""

from collections.abc import Mapping

from thalweg.compare.execution.guidance.curriculum import Curriculum
from thalweg.compare.execution.guidance.fitnet import FitNet
from thalweg.compare.execution.guidance.greedy import Greedy
from thalweg.compare.execution.guidance.guidance import Guidance, after_pretraining
from thalweg.compare.execution.guidance.smoothing import Smoothing
from thalweg.compare.execution.guidance.transfer import Transfer
from thalweg.compare.strategy import Strategy

_GUIDANCES: Mapping[str, Guidance] = {
    "none": Guidance(),
    "greedy": Greedy(),
    "transfer": Transfer(),
    "fitnet": FitNet(),
    "curriculum": Curriculum("easy-first"),
    "curriculum-stochastic": Curriculum("easy-first", mixture=0.2),
    "anti-curriculum": Curriculum("hard-first"),
    "random-curriculum": Curriculum("random"),
    "smoothing": Smoothing(),
}


def guidance_of(strategy: Strategy) -> Guidance:
    """Returns what guides the strategy's runs.

    >>> type(guidance_of(Strategy.parse("adam+curriculum"))).__name__
    'Curriculum'
    """
    return _GUIDANCES[strategy.guidance]


__all__ = ["Guidance", "after_pretraining", "guidance_of"]
