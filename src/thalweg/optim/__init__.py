"""Every rule as a ``torch.optim.Optimizer``: change the import and nothing else.

>>> import torch
>>> from thalweg import optim
>>> model = torch.nn.Linear(3, 1)
>>> optimizer = optim.Adam(model.parameters(), lr=1e-3)

``Adagrad`` and ``RMSprop``, torch's spellings, name the same classes.
"""

from thalweg.optim.adadelta import Adadelta
from thalweg.optim.adagrad import AdaGrad
from thalweg.optim.adam import Adam, AdamW
from thalweg.optim.nadam import NAdam
from thalweg.optim.optimizer import RuleOptimizer
from thalweg.optim.rmsprop import RMSProp
from thalweg.optim.sgd import SGD

Adagrad, RMSprop = AdaGrad, RMSProp

__all__ = ["SGD", "AdaGrad", "Adadelta", "Adagrad", "Adam", "AdamW", "NAdam", "RMSProp", "RMSprop", "RuleOptimizer"]
