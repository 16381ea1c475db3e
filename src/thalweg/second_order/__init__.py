"""Approximate second-order methods (§8.6): Newton, truncated Newton, conjugate gradients, BFGS, L-BFGS."""

from thalweg.second_order.bfgs import BFGS
from thalweg.second_order.conjugate_gradient import BETAS, ConjugateGradient
from thalweg.second_order.descent import Scale, descend, search_for
from thalweg.second_order.direction import Direction
from thalweg.second_order.hessian_free import HessianFree
from thalweg.second_order.lbfgs import LBFGS
from thalweg.second_order.minimize import METHODS, MinimizeResult, minimize
from thalweg.second_order.newton import DampedNewton, FixedNewton, newton, newton_model
from thalweg.second_order.objective import Evaluation, FunctionObjective, NotAnObjective, NotFinite, Objective
from thalweg.second_order.progress import Limits, Place, Report
from thalweg.second_order.truncated_newton import TrustRegion, truncated_newton
from thalweg.second_order.trust import Model, follow_model

__all__ = [
    "BETAS",
    "BFGS",
    "LBFGS",
    "METHODS",
    "ConjugateGradient",
    "DampedNewton",
    "Direction",
    "Evaluation",
    "FixedNewton",
    "FunctionObjective",
    "HessianFree",
    "Limits",
    "MinimizeResult",
    "Model",
    "NotAnObjective",
    "NotFinite",
    "Objective",
    "Place",
    "Report",
    "Scale",
    "TrustRegion",
    "descend",
    "follow_model",
    "minimize",
    "newton",
    "newton_model",
    "search_for",
    "truncated_newton",
]
