"""L-BFGS in compact form: BFGS from the last m pairs, as a few matrix-vector products with S and Y.

With the pairs as rows of S, Y ``(m, n)`` from the oldest to the newest, R the upper triangle of S Yᵀ, D its diagonal
and γ = sᵀy / yᵀy of the newest pair:

    p = R⁻¹ S g
    q = R⁻ᵀ ((D + γ Y Yᵀ) p − γ Y g)
    M g = γ g + Sᵀ q − γ Yᵀ p

S and Y are read twice an iteration, once for S g and Y g and once for the sum; nothing else grows with m n. They lie
in one block, each y behind its s, so that each reading is one matrix-vector product. The small matrices S Yᵀ and Y Yᵀ
get one new row and column a pair, from products that are there already: S y is the difference of S g at the two ends
of the step. They stay on the device, in double precision. Where ranks hold shares of the vectors, an iteration sums
2 m + 5 numbers over them.

Source: Deep Learning, §8.6.3 (L-BFGS); Byrd, Nocedal & Schnabel 1994, theorem 2.2 and section 3.2.
"""

import torch
from torch import Tensor

from thalweg.second_order.bfgs import has_curvature
from thalweg.second_order.direction import Direction
from thalweg.second_order.rows import combination, secant, store, times
from thalweg.tensors.ranges import check_number, check_whole


class LBFGS(Direction):
    """Directions of L-BFGS; memory 2 m n numbers in one block.

    Arguments:
        memory: m, pairs kept.
        damping: Powell's; a pair with sᵀy < damping · sᵀs/γ, the share of what the scaled identity predicts, is bent
            until they are equal instead of being skipped. 0 skips.
        dtype: in which pairs are kept; the vectors' own by default. bfloat16 halves what is read an iteration.

    Raises:
        ValueError: memory < 1; damping outside [0, 1); a type that is no floating-point one.
    """

    vectors = ("pairs",)

    def __init__(self, memory: int = 15, damping: float = 0.0, dtype: torch.dtype | None = None) -> None:
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ValueError(f"pairs are kept in a floating-point type, not in {dtype}")
        self.memory, self.dtype = check_whole("history_size", memory, 1), dtype
        self.damping = check_number("damping", damping, 1.0)
        self._pairs = torch.empty(0, 2, 0)  # (m, 2, n): s and y, row by row
        self.reset()

    def _allocate(self, like: Tensor) -> None:
        self._pairs = like.new_zeros(self.memory, 2, len(like), dtype=self.dtype or like.dtype)
        # S Yᵀ, of which the upper triangle counts, and Y Yᵀ, from the oldest pair to the newest.
        self._products = torch.zeros(2, self.memory, self.memory, dtype=torch.float64, device=like.device)
        self._gamma = 1.0

    def reset(self) -> None:
        self._order: list[int] = []  # rows from the oldest pair to the newest: 0, 1, … or a rotation of that
        self._seen: tuple[Tensor, Tensor] | None = None  # the newest g, and its [S g, Y g]

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
        if self._seen is None or self._seen[0] is not gradient:
            self._seen = gradient, self.ranks.sums(self._with_all(gradient))[0]
        both, k = self._seen[1], len(self._order)
        sy, yy = self._products[:, :k, :k].unbind()
        p = torch.linalg.solve_triangular(sy, both[:, :1], upper=True)  # reads one triangle alone
        middle = torch.addmm(both[:, 1:], yy, p, beta=-self._gamma, alpha=self._gamma)
        middle = torch.addcmul(middle, sy.diagonal()[:, None], p)
        q = torch.linalg.solve_triangular(sy.T, middle, upper=False)
        weights = _turned(torch.cat([-q, p * self._gamma], dim=1), self._order[0])
        return combination(gradient, -self._gamma, self._pairs[:k].flatten(0, 1), weights.flatten())

    def _with_all(self, vector: Tensor) -> Tensor:
        """Returns the vector's products with the pairs ``(k, 2)``, from the oldest to the newest."""
        k = len(self._order)
        if not k:
            return torch.empty(0, 2, dtype=torch.float64, device=vector.device)
        return _turned(times(self._pairs[:k].flatten(0, 1), vector).view(k, 2), -self._order[0])

    def learn(self, d: Tensor, step: float, before: Tensor, after: Tensor) -> None:
        k, seen, self._seen = len(self._order), self._seen, None
        # y's products with the older pairs are the difference of S g and Y g at the two ends of the step, and those at
        # its end serve the next direction: all that is to be known comes from one pass, and from one sum over ranks.
        began = seen[1] if seen is not None and seen[0] is before else None
        other = after - before if k and began is None else after
        values, older = self.ranks.sums(secant(d, step, before, after), self._with_all(other))
        sy, yy, ss, *_ = values.tolist()
        if began is not None:
            self._seen, older = (after, older), older - began
        bent: Tensor | None = None
        if self.damping and k:
            predicted = ss / self._gamma  # sᵀBs of the scaled identity that the estimate starts from
            if sy < self.damping * predicted:
                theta = (1 - self.damping) * predicted / (predicted - sy)
                rest = (1 - theta) / self._gamma
                bent = theta * (after - before) + rest * step * d
                sy, yy = theta * sy + rest * ss, theta**2 * yy + 2 * theta * rest * sy + rest**2 * ss
                older = self.ranks.sums(self._with_all(bent))[0]
        if not has_curvature(sy, ss, yy, after.dtype):
            return
        if k < self.memory:
            row = k
        else:
            row, self._products, older = self._order.pop(0), self._products.roll((-1, -1), (1, 2)), older[1:]
        pair = self._pairs[row]
        store(d, step, before, after, *pair)
        if bent is not None:
            pair[1] = bent
        self._order.append(row)
        last = len(older)
        self._products[:, last, last] = values[:2] if bent is None else values.new_tensor([sy, yy])
        self._products[:, :last, last] = self._products[:, last, :last] = older.T
        self._gamma = sy / yy
        if self._seen is not None:
            newest = values[3:]
            if bent is not None or pair.dtype != after.dtype:  # what is kept is another pair than was measured
                newest = self.ranks.sums(times(pair, after))[0]
            self._seen = after, torch.cat([self._seen[1][k - last :], newest[None]])

    def state(self) -> dict[str, Tensor]:
        order = torch.tensor(self._order + [-1] * (self.memory - len(self._order)))
        gamma = torch.tensor(self._gamma, dtype=torch.float64)
        return {"pairs": self._pairs, "order": order, "products": self._products, "gamma": gamma}

    def _load(self, state: dict[str, Tensor]) -> None:
        self.reset()
        self._pairs, self._products, self._gamma = state["pairs"], state["products"], float(state["gamma"])
        self._order = [row for row in state["order"].tolist() if row >= 0]


def _turned(rows: Tensor, shift: int) -> Tensor:
    return rows.roll(shift, 0) if shift else rows
