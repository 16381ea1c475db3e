"""The 35 problems of Moré, Garbow and Hillstrom: sums of squares f(x) = Σᵢ fᵢ(x)² with their standard starts.

J. J. Moré, B. S. Garbow, K. E. Hillstrom, "Testing Unconstrained Optimization Software", ACM Transactions on
Mathematical Software 7 (1981), 17–41; in its order, with its starting points. Where the paper leaves the dimension
open: Watson n = 6; n = 10 for the extended, variable and linear ones (m = 20 residuals for the linear), but
n = 12 for the extended Powell function, which needs a multiple of 4; Gulf and Box m = 10, Biggs m = 13,
Jennrich–Sampson m = 10, Brown–Dennis m = 20, Chebyquad n = 8. In the Gulf problem the paper's misprinted
"yᵢ m i x₂" is read yᵢ − x₂.

``minima`` holds the values of all minima that the paper names, least first, its six digits carried on to about twelve
by Newton's method. Among them are infima that are only approached as x grows without bound (Bard's 17.4, Kowalik
and Osborne's 1.03e-3), and the 0 of Biggs, an exact fit. Biggs' 5.66e-3 is a saddle: the start is unchanged by
swapping (x₁, x₃) with (x₅, x₆), so are all iterates but for rounding, and among such points it is the minimum. There
are further minima, with larger values, off the way from the standard starts (Osborne 2, Trigonometric).

Symbols: x (n,) float64; residuals fᵢ (m,); t, y the paper's tᵢ, yᵢ. All are twice differentiable at almost every x.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Problem:
    """A sum of squares to minimize; called at x ``(n,)`` it gives f(x), a tensor without dimensions."""

    name: str
    start: Tensor
    residuals: Callable[[Tensor], Tensor]
    minima: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        return self.residuals(x).square().sum()


def _tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _count(n: int) -> Tensor:
    """Returns 1, …, n."""
    return torch.arange(1, n + 1, dtype=torch.float64)


def rosenbrock(x: Tensor) -> Tensor:
    """Problems 1 and 21: n even, m = n."""
    a, b = x.view(-1, 2).T
    return torch.stack([10 * (b - a**2), 1 - a], dim=1).flatten()


def freudenstein_roth(x: Tensor) -> Tensor:
    """Problem 2: n = m = 2."""
    a, b = x
    return torch.stack([-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b])


def powell_badly_scaled(x: Tensor) -> Tensor:
    """Problem 3: n = m = 2."""
    a, b = x
    return torch.stack([1e4 * a * b - 1, torch.exp(-a) + torch.exp(-b) - 1.0001])


def brown_badly_scaled(x: Tensor) -> Tensor:
    """Problem 4: n = 2, m = 3."""
    a, b = x
    return torch.stack([a - 1e6, b - 2e-6, a * b - 2])


BEALE = _tensor(1.5, 2.25, 2.625)


def beale(x: Tensor) -> Tensor:
    """Problem 5: n = 2, m = 3."""
    return BEALE - x[0] * (1 - x[1] ** _count(3))


def jennrich_sampson(x: Tensor) -> Tensor:
    """Problem 6: n = 2, m = 10."""
    i = _count(10)
    return 2 + 2 * i - torch.exp(i * x[0]) - torch.exp(i * x[1])


def helical_valley(x: Tensor) -> Tensor:
    """Problem 7: n = m = 3.

    2πθ is the angle of (x₁, x₂) within (−π/2, 3π/2], so that θ jumps where x₁ = 0 and x₂ < 0; the paper's
    arctan(x₂/x₁), with ½ added where x₁ < 0, is the same.
    """
    a, b, c = x
    theta = torch.atan2(-a, b) / (2 * math.pi) + 0.25
    return torch.stack([10 * (c - 10 * theta), 10 * (torch.hypot(a, b) - 1), c])


BARD = _tensor(0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39)


def bard(x: Tensor) -> Tensor:
    """Problem 8: n = 3, m = 15."""
    u = _count(15)
    v = 16 - u
    return BARD - (x[0] + u / (v * x[1] + torch.minimum(u, v) * x[2]))


GAUSSIAN = _tensor(
    0.0009,
    0.0044,
    0.0175,
    0.0540,
    0.1295,
    0.2420,
    0.3521,
    0.3989,
    0.3521,
    0.2420,
    0.1295,
    0.0540,
    0.0175,
    0.0044,
    0.0009,
)


def gaussian(x: Tensor) -> Tensor:
    """Problem 9: n = 3, m = 15."""
    t = (8 - _count(15)) / 2
    return x[0] * torch.exp(-x[1] * (t - x[2]) ** 2 / 2) - GAUSSIAN


MEYER = _tensor(34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872)


def meyer(x: Tensor) -> Tensor:
    """Problem 10: n = 3, m = 16."""
    t = 45 + 5 * _count(16)
    return x[0] * torch.exp(x[1] / (t + x[2])) - MEYER


def gulf(x: Tensor) -> Tensor:
    """Problem 11: n = 3, m = 10."""
    t = _count(10) / 100
    y = 25 + (-50 * torch.log(t)) ** (2 / 3)
    return torch.exp(-(torch.abs(y - x[1]) ** x[2]) / x[0]) - t


def box(x: Tensor) -> Tensor:
    """Problem 12: n = 3, m = 10."""
    t = _count(10) / 10
    return torch.exp(-t * x[0]) - torch.exp(-t * x[1]) - x[2] * (torch.exp(-t) - torch.exp(-10 * t))


def powell_singular(x: Tensor) -> Tensor:
    """Problems 13 and 22: n a multiple of 4, m = n."""
    a, b, c, d = x.view(-1, 4).T
    rows = [a + 10 * b, math.sqrt(5) * (c - d), (b - 2 * c) ** 2, math.sqrt(10) * (a - d) ** 2]
    return torch.stack(rows, dim=1).flatten()


def wood(x: Tensor) -> Tensor:
    """Problem 14: n = 4, m = 6."""
    a, b, c, d = x
    return torch.stack(
        [
            10 * (b - a**2),
            1 - a,
            math.sqrt(90) * (d - c**2),
            1 - c,
            math.sqrt(10) * (b + d - 2),
            (b - d) / math.sqrt(10),
        ]
    )


KOWALIK_Y = _tensor(0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246)
KOWALIK_U = _tensor(4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625)


def kowalik_osborne(x: Tensor) -> Tensor:
    """Problem 15: n = 4, m = 11."""
    u = KOWALIK_U
    return KOWALIK_Y - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def brown_dennis(x: Tensor) -> Tensor:
    """Problem 16: n = 4, m = 20."""
    t = _count(20) / 5
    return (x[0] + t * x[1] - torch.exp(t)) ** 2 + (x[2] + x[3] * torch.sin(t) - torch.cos(t)) ** 2


OSBORNE_1 = _tensor(
    0.844,
    0.908,
    0.932,
    0.936,
    0.925,
    0.908,
    0.881,
    0.850,
    0.818,
    0.784,
    0.751,
    0.718,
    0.685,
    0.658,
    0.628,
    0.603,
    0.580,
    0.558,
    0.538,
    0.522,
    0.506,
    0.490,
    0.478,
    0.467,
    0.457,
    0.448,
    0.438,
    0.431,
    0.424,
    0.420,
    0.414,
    0.411,
    0.406,
)


def osborne_1(x: Tensor) -> Tensor:
    """Problem 17: n = 5, m = 33."""
    t = 10 * (_count(33) - 1)
    return OSBORNE_1 - (x[0] + x[1] * torch.exp(-t * x[3]) + x[2] * torch.exp(-t * x[4]))


def biggs(x: Tensor) -> Tensor:
    """Problem 18: n = 6, m = 13."""
    t = _count(13) / 10
    y = torch.exp(-t) - 5 * torch.exp(-10 * t) + 3 * torch.exp(-4 * t)
    return x[2] * torch.exp(-t * x[0]) - x[3] * torch.exp(-t * x[1]) + x[5] * torch.exp(-t * x[4]) - y


OSBORNE_2 = _tensor(
    1.366,
    1.191,
    1.112,
    1.013,
    0.991,
    0.885,
    0.831,
    0.847,
    0.786,
    0.725,
    0.746,
    0.679,
    0.608,
    0.655,
    0.616,
    0.606,
    0.602,
    0.626,
    0.651,
    0.724,
    0.649,
    0.649,
    0.694,
    0.644,
    0.624,
    0.661,
    0.612,
    0.558,
    0.533,
    0.495,
    0.500,
    0.423,
    0.395,
    0.375,
    0.372,
    0.391,
    0.396,
    0.405,
    0.428,
    0.429,
    0.523,
    0.562,
    0.607,
    0.653,
    0.672,
    0.708,
    0.633,
    0.668,
    0.645,
    0.632,
    0.591,
    0.559,
    0.597,
    0.625,
    0.739,
    0.710,
    0.729,
    0.720,
    0.636,
    0.581,
    0.428,
    0.292,
    0.162,
    0.098,
    0.054,
)


def osborne_2(x: Tensor) -> Tensor:
    """Problem 19: n = 11, m = 65; a decay and three bumps, of heights x₂ to x₄ at x₉ to x₁₁."""
    t = (_count(65) - 1) / 10
    bumps = x[1:4] * torch.exp(-((t[:, None] - x[8:]) ** 2) * x[5:8])
    return OSBORNE_2 - (x[0] * torch.exp(-t * x[4]) + bumps.sum(dim=1))


def watson(x: Tensor) -> Tensor:
    """Problem 20: n up to 31, m = 31."""
    t, power = _count(29)[:, None] / 29, torch.arange(len(x), dtype=torch.float64)
    slope = (power[1:] * t ** (power[1:] - 1)) @ x[1:]
    value = (t**power) @ x
    return torch.cat([slope - value**2 - 1, torch.stack([x[0], x[1] - x[0] ** 2 - 1])])


def penalty_1(x: Tensor) -> Tensor:
    """Problem 23: m = n + 1."""
    return torch.cat([math.sqrt(1e-5) * (x - 1), (x.square().sum() - 0.25)[None]])


def penalty_2(x: Tensor) -> Tensor:
    """Problem 24: m = 2n."""
    i, e = _count(len(x)), torch.exp(x / 10)
    y = torch.exp(i / 10)
    first = x[:1] - 0.2
    pairs = math.sqrt(1e-5) * (e[1:] + e[:-1] - y[1:] - y[:-1])
    singles = math.sqrt(1e-5) * (e[1:] - math.exp(-0.1))
    last = (i.flip(0) * x**2).sum()[None] - 1
    return torch.cat([first, pairs, singles, last])


def variably_dimensioned(x: Tensor) -> Tensor:
    """Problem 25: m = n + 2."""
    total = (_count(len(x)) * (x - 1)).sum()
    return torch.cat([x - 1, torch.stack([total, total**2])])


def trigonometric(x: Tensor) -> Tensor:
    """Problem 26: m = n."""
    i, cosine = _count(len(x)), torch.cos(x)
    return len(x) - cosine.sum() + i * (1 - cosine) - torch.sin(x)


def brown_almost_linear(x: Tensor) -> Tensor:
    """Problem 27: m = n."""
    return torch.cat([x[:-1] + x.sum() - (len(x) + 1), x.prod()[None] - 1])


def _padded(x: Tensor) -> Tensor:
    """Returns x between the boundary values x₀ = xₙ₊₁ = 0."""
    return torch.nn.functional.pad(x, (1, 1))


def _grid(n: int) -> tuple[float, Tensor]:
    """Returns the step h = 1/(n + 1) and the points tᵢ = ih."""
    return 1 / (n + 1), _count(n) / (n + 1)


def discrete_boundary_value(x: Tensor) -> Tensor:
    """Problem 28: m = n."""
    h, t = _grid(len(x))
    around = _padded(x)
    return 2 * x - around[:-2] - around[2:] + h**2 * (x + t + 1) ** 3 / 2


def discrete_integral_equation(x: Tensor) -> Tensor:
    """Problem 29: m = n."""
    h, t = _grid(len(x))
    cube = (x + t + 1) ** 3
    upto, beyond = t * cube, (1 - t) * cube
    after = beyond.sum() - beyond.cumsum(0)
    return x + h * ((1 - t) * upto.cumsum(0) + t * after) / 2


def broyden_tridiagonal(x: Tensor) -> Tensor:
    """Problem 30: m = n."""
    around = _padded(x)
    return (3 - 2 * x) * x - around[:-2] - 2 * around[2:] + 1


def broyden_banded(x: Tensor) -> Tensor:
    """Problem 31: m = n; the band holds the five below and the one above, not i itself."""
    band = torch.ones(len(x), len(x), dtype=torch.float64).triu(-5).tril(1).fill_diagonal_(0)
    return x * (2 + 5 * x**2) + 1 - band @ (x * (1 + x))


ROWS = 20


def linear_full_rank(x: Tensor) -> Tensor:
    """Problem 32: m = 20."""
    return torch.nn.functional.pad(x, (0, ROWS - len(x))) - 2 / ROWS * x.sum() - 1


def linear_rank_1(x: Tensor) -> Tensor:
    """Problem 33: m = 20."""
    return _count(ROWS) * (_count(len(x)) @ x) - 1


def linear_rank_1_zeros(x: Tensor) -> Tensor:
    """Problem 34: m = 20; first and last column, first and last row are zero."""
    columns, rows = _count(len(x)), _count(ROWS) - 1
    columns[[0, -1]] = rows[[0, -1]] = 0
    return rows * (columns @ x) - 1


def chebyquad(x: Tensor) -> Tensor:
    """Problem 35: m = n; means of the shifted Chebyshev polynomials Tᵢ minus their integrals over [0, 1]."""
    n, shifted = len(x), 2 * x - 1
    polynomials = [torch.ones_like(x), shifted]
    while len(polynomials) <= n:
        polynomials.append(2 * shifted * polynomials[-1] - polynomials[-2])
    i = _count(n)
    # ∫ Tᵢ is 0 for odd i; for even i it is −1/(i² − 1).
    integrals = torch.where(i % 2 == 0, -1 / (i**2 - 1), 0)
    return torch.stack(polynomials[1:]).mean(dim=1) - integrals


def _boundary_start(n: int = 10) -> Tensor:
    _, t = _grid(n)
    return t * (t - 1)


PROBLEMS = [
    Problem("Rosenbrock", _tensor(-1.2, 1), rosenbrock, (0,)),
    Problem("Freudenstein–Roth", _tensor(0.5, -2), freudenstein_roth, (0, 48.9842536792)),
    Problem("Powell badly scaled", _tensor(0, 1), powell_badly_scaled, (0,)),
    Problem("Brown badly scaled", _tensor(1, 1), brown_badly_scaled, (0,)),
    Problem("Beale", _tensor(1, 1), beale, (0,)),
    Problem("Jennrich–Sampson", _tensor(0.3, 0.4), jennrich_sampson, (124.362182356,)),
    Problem("Helical valley", _tensor(-1, 0, 0), helical_valley, (0,)),
    Problem("Bard", _tensor(1, 1, 1), bard, (8.21487730658e-3, 17.4286933333)),
    Problem("Gaussian", _tensor(0.4, 1, 0), gaussian, (1.12793276962e-8,)),
    Problem("Meyer", _tensor(0.02, 4000, 250), meyer, (87.9458551707,)),
    Problem("Gulf research", _tensor(5, 2.5, 0.15), gulf, (0,)),
    Problem("Box 3-D", _tensor(0, 10, 20), box, (0,)),
    Problem("Powell singular", _tensor(3, -1, 0, 1), powell_singular, (0,)),
    Problem("Wood", _tensor(-3, -1, -3, -1), wood, (0,)),
    Problem("Kowalik–Osborne", _tensor(0.25, 0.39, 0.415, 0.39), kowalik_osborne, (3.07505603849e-4, 1.0273430487e-3)),
    Problem("Brown–Dennis", _tensor(25, 5, -5, -1), brown_dennis, (85822.2016264,)),
    Problem("Osborne 1", _tensor(0.5, 1.5, -1, 0.01, 0.02), osborne_1, (5.46489469748e-5,)),
    Problem("Biggs EXP6", _tensor(1, 2, 1, 1, 1, 1), biggs, (0, 5.6556499255e-3)),
    Problem("Osborne 2", _tensor(1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5), osborne_2, (4.01377362935e-2,)),
    Problem("Watson", torch.zeros(6, dtype=torch.float64), watson, (2.28767005355e-3,)),
    Problem("Extended Rosenbrock", _tensor(-1.2, 1).repeat(5), rosenbrock, (0,)),
    Problem("Extended Powell singular", _tensor(3, -1, 0, 1).repeat(3), powell_singular, (0,)),
    Problem("Penalty I", _count(10), penalty_1, (7.08765146709e-5,)),
    Problem("Penalty II", _tensor(0.5).repeat(10), penalty_2, (2.93660537457e-4,)),
    Problem("Variably dimensioned", 1 - _count(10) / 10, variably_dimensioned, (0,)),
    Problem("Trigonometric", _tensor(0.1).repeat(10), trigonometric, (0, 2.79505612188e-5)),
    Problem("Brown almost-linear", _tensor(0.5).repeat(10), brown_almost_linear, (0, 1)),
    Problem("Discrete boundary value", _boundary_start(), discrete_boundary_value, (0,)),
    Problem("Discrete integral equation", _boundary_start(), discrete_integral_equation, (0,)),
    Problem("Broyden tridiagonal", _tensor(-1).repeat(10), broyden_tridiagonal, (0,)),
    Problem("Broyden banded", _tensor(-1).repeat(10), broyden_banded, (0,)),
    Problem("Linear, full rank", _tensor(1).repeat(10), linear_full_rank, (10,)),
    Problem("Linear, rank 1", _tensor(1).repeat(10), linear_rank_1, (190 / 41,)),
    Problem("Linear, rank 1, zero columns and rows", _tensor(1).repeat(10), linear_rank_1_zeros, (227 / 37,)),
    Problem("Chebyquad", _count(8) / 9, chebyquad, (3.51687372568e-3,)),
]

# The same problems where other dimensions are published too; those of fixed dimension are as above.
OTHER_DIMENSIONS = [
    Problem("Watson, n = 9", torch.zeros(9, dtype=torch.float64), watson, (1.39976e-6,)),
    Problem("Watson, n = 12", torch.zeros(12, dtype=torch.float64), watson, (4.72238e-10,)),
    Problem("Extended Rosenbrock, n = 20", _tensor(-1.2, 1).repeat(10), rosenbrock, (0,)),
    Problem("Extended Powell singular, n = 16", _tensor(3, -1, 0, 1).repeat(4), powell_singular, (0,)),
    Problem("Penalty I, n = 4", _count(4), penalty_1, (2.24997e-5,)),
    Problem("Penalty II, n = 4", _tensor(0.5).repeat(4), penalty_2, (9.37629e-6,)),
    Problem("Variably dimensioned, n = 30", 1 - _count(30) / 30, variably_dimensioned, (0,)),
    Problem("Brown almost-linear, n = 30", _tensor(0.5).repeat(30), brown_almost_linear, (0, 1)),
    Problem("Brown almost-linear, n = 40", _tensor(0.5).repeat(40), brown_almost_linear, (0, 1)),
    Problem("Discrete boundary value, n = 20", _boundary_start(20), discrete_boundary_value, (0,)),
    Problem("Discrete integral equation, n = 30", _boundary_start(30), discrete_integral_equation, (0,)),
    Problem("Broyden tridiagonal, n = 30", _tensor(-1).repeat(30), broyden_tridiagonal, (0,)),
    Problem("Broyden banded, n = 50", _tensor(-1).repeat(50), broyden_banded, (0,)),
    Problem("Linear, full rank, n = 5", _tensor(1).repeat(5), linear_full_rank, (15,)),
    Problem("Chebyquad, n = 9", _count(9) / 10, chebyquad, (0,)),
    Problem("Chebyquad, n = 10", _count(10) / 11, chebyquad, (6.50395e-3, 4.77271e-3)),
]
