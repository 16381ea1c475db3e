"""Supervised pretraining (§8.7.4): what is trained before the model is trained as a whole.

:func:`greedy` trains block by block, :func:`transfer` takes blocks from a model of a related task, and
:class:`HintTraining` leads a thin deep student by a teacher. Each turns the stage that would train the model alone
into a :class:`~thalweg.stages.Plan`; ``thalweg.training.train(plan.model, plan.stages)`` runs it.
"""

from thalweg.pretraining.greedy import greedy
from thalweg.pretraining.hints import HintTraining
from thalweg.pretraining.transfer import transfer
from thalweg.pretraining.weights import load_weights, read_weights

__all__ = ["HintTraining", "greedy", "load_weights", "read_weights", "transfer"]
