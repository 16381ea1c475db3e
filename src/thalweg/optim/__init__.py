"""Every update rule and second-order method as a ``torch.optim.Optimizer``; changing the import is enough.

>>> import torch
>>> from thalweg import optim
>>> model = torch.nn.Linear(3, 1)
>>> optimizer = optim.Adam(model.parameters(), lr=1e-3)

``Adagrad`` and ``RMSprop``, torch's spellings, name the same classes.
"""

from thalweg.optim.adadelta import Adadelta
from thalweg.optim.adagrad import AdaGrad
from thalweg.optim.adam import Adam, AdamW
from thalweg.optim.adan import Adan
from thalweg.optim.ademamix import AdEMAMix
from thalweg.optim.bfgs import BFGS
from thalweg.optim.closure_optimizer import ClosureOptimizer
from thalweg.optim.closure_state import StepReport
from thalweg.optim.conjugate_gradient import ConjugateGradient
from thalweg.optim.decay import no_decay_groups
from thalweg.optim.lamb import LAMB
from thalweg.optim.lars import LARS
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.lion import Lion
from thalweg.optim.matrix_optimizer import MatrixOptimizer
from thalweg.optim.muon import Muon
from thalweg.optim.nadam import NAdam
from thalweg.optim.newton import Newton
from thalweg.optim.optimizer import RuleOptimizer
from thalweg.optim.prodigy import Prodigy
from thalweg.optim.rmsprop import RMSProp
from thalweg.optim.roles import matrix_groups, parameter_roles
from thalweg.optim.schedule_free import ScheduleFreeAdamW, ScheduleFreeSGD
from thalweg.optim.sgd import SGD
from thalweg.optim.shampoo import Shampoo
from thalweg.optim.soap import SOAP
from thalweg.optim.truncated_newton import TruncatedNewton

Adagrad, RMSprop = AdaGrad, RMSProp

__all__ = [
    "BFGS",
    "LAMB",
    "LARS",
    "LBFGS",
    "SGD",
    "SOAP",
    "AdEMAMix",
    "AdaGrad",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adan",
    "ClosureOptimizer",
    "ConjugateGradient",
    "Lion",
    "MatrixOptimizer",
    "Muon",
    "NAdam",
    "Newton",
    "Prodigy",
    "RMSProp",
    "RMSprop",
    "RuleOptimizer",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Shampoo",
    "StepReport",
    "TruncatedNewton",
    "matrix_groups",
    "no_decay_groups",
    "parameter_roles",
]
