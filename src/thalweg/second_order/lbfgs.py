"""L-BFGS in compact form: BFGS from the last m pairs, as a few matrix-vector products with S and Y.

With the pairs as rows of S, Y ``(m, n)`` from the oldest to the newest, R the upper triangle of S Yᵀ, D its diagonal
and γ = sᵀy / yᵀy of the newest pair:

    p = R⁻¹ S g
    q = R⁻ᵀ ((D + γ Y Yᵀ) p − γ Y g)
    M g = γ g + Sᵀ q − γ Yᵀ p

S and Y are read twice an iteration, once for S g and Y g and once for the sum; nothing else grows with m n. They lie
in one block, each y behind its s, so that each reading is one matrix-vector product. The small matrices S Yᵀ and Y Yᵀ
get one new row and column a pair, from products that are there already: S y is the difference of S g at the two ends
of the step. They stay on the device, in double precision.

Source: Deep Learning, §8.6.3 (L-BFGS); Byrd, Nocedal & Schnabel 1994, theorem 2.2 and section 3.2.
"""

import torch
from torch import Tensor

from thalweg.second_order.bfgs import CURVATURE
from thalweg.second_order.direction import Direction
from thalweg.second_order.rows import add_rows_, times


class LBFGS(Direction):
    """Directions of L-BFGS; memory 2 m n numbers in two blocks.

    Arguments:
        memory: m, pairs kept.
        damping: Powell's; a pair with sᵀy < damping · sᵀs/γ, the share of what the scaled identity foretells, is bent
            until they are equal instead of being skipped. 0 skips.
        dtype: in which pairs are kept; the vectors' own by default. bfloat16 halves what is read an iteration.

    Raises:
        ValueError: memory < 1; damping outside [0, 1); a type that is no floating-point one.
    """

    def __init__(self, memory: int = 15, damping: float = 0.0, dtype: torch.dtype | None = None) -> None:
        if memory < 1:
            raise ValueError(f"memory must be at least 1, not {memory}")
        if not 0 <= damping < 1:
            raise ValueError(f"damping must lie in [0, 1), not {damping}")
        if dtype is not None and not dtype.is_floating_point:
            raise ValueError(f"pairs are kept in a floating-point type, not in {dtype}")
        self.memory, self.damping, self.dtype = memory, damping, dtype
        self._s = self._y = torch.empty(0, 0)
        self.reset()

    def prepare(self, like: Tensor) -> None:
        size = self.memory, len(like)
        self._s, self._y = (like.new_zeros(size, dtype=self.dtype or like.dtype) for _ in range(2))
        small = like.new_zeros(self.memory, self.memory, dtype=torch.float64)
        self._sy, self._yy, self._gamma = small, small.clone(), like.new_ones((), dtype=torch.float64)
        self.reset()

    def reset(self) -> None:
        self._order: list[int] = []  # rows from the oldest to the newest
        self._before: tuple[Tensor, Tensor, Tensor] | None = None  # g, S g, Y g where the last direction was made
        self._newest: tuple[Tensor, Tensor] | None = None  # the newest pair's gradients, until its products are known

    @property
    def fresh(self) -> bool:
        return not self._order

    @property
    def well_scaled(self) -> bool:
        return bool(self._order)

    @property
    def pairs(self) -> int:
        """Pairs that are kept now."""
        return len(self._order)

    def __call__(self, gradient: Tensor) -> Tensor:
        if not self._order:
            return -gradient
        k = len(self._order)
        s, y = self._s[:k], self._y[:k]
        sg, yg = times(s, gradient), times(y, gradient)
        self._complete(gradient, sg, yg)
        self._before = gradient, sg, yg
        order = torch.tensor(self._order, device=gradient.device)
        products = self._sy[order][:, order]
        upper = products.triu()
        p = torch.linalg.solve_triangular(upper, sg[order, None], upper=True)
        middle = products.diagonal()[:, None] * p + self._gamma * (self._yy[order][:, order] @ p - yg[order, None])
        q = torch.linalg.solve_triangular(upper.T, middle, upper=False)
        back = torch.empty_like(order)
        back[order] = torch.arange(k, device=order.device)
        direction = gradient * -self._gamma.to(gradient.dtype)
        add_rows_(direction, s, -q[back, 0])
        add_rows_(direction, y, self._gamma * p[back, 0])
        return direction

    def learn(self, d: Tensor, step: float, before: Tensor, after: Tensor) -> None:
        s, y = d * step, after - before
        values = torch.stack([s @ y, y @ y, s @ s]).double()
        sy, yy, ss = values.tolist()
        if self.damping and self._order:
            foretold = ss / float(self._gamma)  # sᵀBs of the scaled identity that the estimate starts from
            if sy < self.damping * foretold:
                theta = (1 - self.damping) * foretold / (foretold - sy)
                y = theta * y + (1 - theta) / float(self._gamma) * s
                values = torch.stack([s @ y, y @ y, s @ s]).double()
                sy, yy, ss = values.tolist()
        if not sy > CURVATURE * (ss * yy) ** 0.5:
            return
        self._settle()
        k = len(self._order)
        row = k if k < self.memory else self._order.pop(0)
        if k < self.memory and self._before is not None:
            g, sg, yg = self._before
            self._before = g, torch.cat([sg, sg.new_zeros(1)]), torch.cat([yg, yg.new_zeros(1)])
        self._s[row], self._y[row] = s, y
        self._order.append(row)
        self._sy[row, row], self._yy[row, row] = values[0], values[1]
        self._gamma = values[0] / values[1]
        self._newest = before, after

    def _complete(self, gradient: Tensor, sg: Tensor, yg: Tensor) -> None:
        """Enters the newest pair's products with the others, from ``S g`` and ``Y g`` at both ends of its step."""
        if self._newest is not None and self._before is not None and not self.damping:
            before, after = self._newest
            if before is self._before[0] and after is gradient:
                self._enter(sg - self._before[1], yg - self._before[2])
                return
        self._settle()

    def _settle(self) -> None:
        """Enters the newest pair's products with the others at the price of one more pass over the pairs."""
        if self._newest is not None:
            k, newest = len(self._order), self._order[-1]
            y = self._y[newest].to(self._newest[0].dtype)
            self._enter(times(self._s[:k], y), times(self._y[:k], y))

    def _enter(self, sy: Tensor, yy: Tensor) -> None:
        k, row = len(self._order), self._order[-1]
        keep = self._sy[row, row].clone(), self._yy[row, row].clone()
        self._sy[:k, row] = sy
        self._yy[:k, row] = self._yy[row, :k] = yy
        self._sy[row, row], self._yy[row, row] = keep
        self._newest = None

    def state(self) -> dict[str, Tensor]:
        self._settle()
        order = torch.tensor(self._order + [-1] * (self.memory - len(self._order)))
        return {
            "s": self._s, "y": self._y, "order": order, "sy": self._sy, "yy": self._yy, "gamma": self._gamma,
        }  # fmt: skip

    def load(self, state: dict[str, Tensor]) -> None:
        self.reset()
        self._s, self._y, self._sy, self._yy, self._gamma = (state[name] for name in ("s", "y", "sy", "yy", "gamma"))
        self._order = [row for row in state["order"].tolist() if row >= 0]
