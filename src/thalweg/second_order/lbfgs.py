"""L-BFGS in compact form: BFGS from the last m pairs, as a few matrix-vector products with S and Y.

With the pairs as rows of S, Y ``(m, n)`` from the oldest to the newest, R the upper triangle of S Yᵀ, D its diagonal
and γ = sᵀy / yᵀy of the newest pair:

    p = R⁻¹ S g
    q = R⁻ᵀ ((D + γ Y Yᵀ) p − γ Y g)
    M g = γ g + Sᵀ q − γ Yᵀ p

S and Y are read twice an iteration, once for S g and Y g and once for the sum; nothing else grows with m n. The
small matrices S Yᵀ and Y Yᵀ get one new row and column a pair, from products that are there already: S y is the
difference of S g at the two ends of the step. They stay on the device, in double precision.

Source: Deep Learning, §8.6.3 (L-BFGS); Byrd, Nocedal & Schnabel 1994, theorem 2.2 and section 3.2.
"""

import torch
from torch import Tensor

from thalweg.second_order.bfgs import CURVATURE
from thalweg.second_order.direction import Direction


class LBFGS(Direction):
    """Directions of L-BFGS; memory 2 m n numbers in two blocks.

    Arguments:
        memory: m, pairs kept.
        damping: Powell's; a pair with sᵀy < damping · sᵀs/γ, the share of what the scaled identity foretells, is bent
            until they are equal instead of being skipped. 0 skips.

    Raises:
        ValueError: memory < 1.
    """

    def __init__(self, memory: int = 15, damping: float = 0.0) -> None:
        if memory < 1:
            raise ValueError(f"memory must be at least 1, not {memory}")
        if not 0 <= damping < 1:
            raise ValueError(f"damping must lie in [0, 1), not {damping}")
        self.memory, self.damping = memory, damping
        self._s: Tensor | None = None
        self._y: Tensor | None = None
        self.reset()

    def reset(self) -> None:
        self._order: list[int] = []  # rows from the oldest to the newest
        self._sy = self._yy = torch.zeros(0, 0, dtype=torch.float64)
        self._gamma = torch.ones((), dtype=torch.float64)
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
        if not self._order or self._s is None or self._y is None:
            self._before = None
            return -gradient
        k = len(self._order)
        s, y = self._s[:k], self._y[:k]
        sg, yg = (s @ gradient).double(), (y @ gradient).double()
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
        weights_s, weights_y = q[back, 0], -self._gamma * p[back, 0]
        step = gradient * self._gamma.to(gradient.dtype)
        for rows, weights in ((s, weights_s), (y, weights_y)):
            step.addmv_(rows.T, weights.to(gradient.dtype))
        return step.neg_()

    def learn(self, s: Tensor, before: Tensor, after: Tensor) -> None:
        y = after - before
        sy, yy, ss = s @ y, y @ y, s @ s
        values = torch.stack([sy, yy, ss]).double()
        sy_, yy_, ss_ = values.tolist()
        if self.damping and self._order:
            predicted = ss_ / float(self._gamma)  # sᵀBs of the scaled identity that the estimate starts from
            if sy_ < self.damping * predicted:
                theta = (1 - self.damping) * predicted / (predicted - sy_)
                y = theta * y + (1 - theta) / float(self._gamma) * s
                values = torch.stack([s @ y, y @ y, s @ s]).double()
                sy_, yy_, ss_ = values.tolist()
        if not sy_ > CURVATURE * (ss_ * yy_) ** 0.5:
            return
        if self._s is None or self._y is None or self._s.shape[1] != len(s):
            self._s, self._y = (s.new_empty(self.memory, len(s)) for _ in range(2))
        self._settle()
        k = len(self._order)
        row = k if k < self.memory else self._order.pop(0)
        if k < self.memory:
            self._sy, self._yy = (torch.nn.functional.pad(m.to(s.device), (0, 1, 0, 1)) for m in (self._sy, self._yy))
            if self._before is not None:
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
        if self._newest is not None and self._s is not None and self._y is not None:
            k, y = len(self._order), self._y[self._order[-1]]
            self._enter((self._s[:k] @ y).double(), (self._y[:k] @ y).double())

    def _enter(self, sy: Tensor, yy: Tensor) -> None:
        row = self._order[-1]
        keep = self._sy[row, row].clone(), self._yy[row, row].clone()
        self._sy[:, row] = sy
        self._yy[:, row] = yy
        self._yy[row] = yy
        self._sy[row, row], self._yy[row, row] = keep
        self._newest = None

    def state(self) -> dict[str, Tensor]:
        if not self._order or self._s is None or self._y is None:
            return {}
        self._settle()
        order = torch.tensor(self._order, dtype=torch.float64)
        k = len(self._order)
        return {
            "s": self._s[:k], "y": self._y[:k], "order": order, "sy": self._sy, "yy": self._yy, "gamma": self._gamma,
        }  # fmt: skip

    def load(self, state: dict[str, Tensor]) -> None:
        self.reset()
        if "order" not in state:
            return
        self._order = [int(i) for i in state["order"].tolist()]
        k = len(self._order)
        self._s = state["s"].new_empty(self.memory, state["s"].shape[1])
        self._y = torch.empty_like(self._s)
        self._s[:k], self._y[:k] = state["s"], state["y"]
        device = self._s.device
        self._sy, self._yy, self._gamma = (state[name].to(device, torch.float64) for name in ("sy", "yy", "gamma"))
