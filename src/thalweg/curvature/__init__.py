"""Curvature (§8.6): matrices known by their products, and what can be asked of them with no more than that."""

from thalweg.curvature.density import Density, spectral_density
from thalweg.curvature.exact import check_fits, exact_hessian, exact_matrix
from thalweg.curvature.extremes import Eigenpair, Extremes, extreme_eigenvalues
from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.hutchinson import Diagonal, Trace, diagonal, trace
from thalweg.curvature.lanczos import Tridiagonal, lanczos
from thalweg.curvature.linear_cg import Solution, linear_cg
from thalweg.curvature.operator import Damped, LinearOperator

__all__ = [
    "Damped",
    "Density",
    "Diagonal",
    "Eigenpair",
    "Extremes",
    "GaussNewton",
    "Hessian",
    "LinearOperator",
    "Solution",
    "Trace",
    "Tridiagonal",
    "check_fits",
    "diagonal",
    "exact_hessian",
    "exact_matrix",
    "extreme_eigenvalues",
    "lanczos",
    "linear_cg",
    "spectral_density",
    "trace",
]
