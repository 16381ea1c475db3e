"""Exponential averaging: the far past, where a non-convex cost was another landscape, is forgotten."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from thalweg.averaging.averaging import Averaging, Scalar
from thalweg.tensors.ranges import is_within


@dataclass(frozen=True)
class EMA(Averaging):
    """Exponential average, θ̄_t = α θ̄_{t−1} + (1 − α) θ_t, corrected for its start unless told otherwise.

    Without correction θ̄_t is αᵗ θ₀ + (1 − α) Σ αᵗ⁻ⁱ θ_i: where the run began counts for αᵗ, which fades over some
    1/(1 − α) steps. A correction is another w_t, that tends to 1 − α as t passes that:

    ============ =================================== =====================================================
    ``"bias"``   w_t = (1 − α)/(1 − αᵗ)              θ₀ left out and the weights αᵗ⁻ⁱ made to sum to 1: exact
                                                     from the first step on, as Adam's moments
    ``"warmup"`` w_t = 1 − min(α, (1 + t)/(10 + t))  a short memory at first; begins at θ₀
    ``"none"``   w_t = 1 − α                         the equation as it stands; begins at θ₀
    ============ =================================== =====================================================

    Arguments:
        decay: α in [0, 1); :meth:`over` takes the number of steps that the memory spans, 1/(1 − α).
        correction: ``"bias"``, ``"warmup"`` or ``"none"``.
        start: steps before the average, up to which θ̄ is θ; t above, and θ₀, are counted from there.

    Raises:
        ValueError: a decay or a start out of range, an unknown correction.

    >>> [round(EMA(0.9).weight(t), 3) for t in (1, 2, 100)]
    [1.0, 0.526, 0.1]
    >>> EMA.over(1000)
    EMA(start=0, decay=0.999, correction='bias')

    Source: Deep Learning, §8.7.3; the correction: Kingma & Ba 2014, §3.
    """

    decay: float = 0.999
    correction: Literal["bias", "warmup", "none"] = "bias"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be in [0, 1), not {self.decay}: EMA.over(steps) takes a number of steps")
        if self.correction not in ("bias", "warmup", "none"):
            raise ValueError(f"unknown correction {self.correction!r}: choose bias, warmup or none")

    @classmethod
    def over(cls, horizon: float, correction: Literal["bias", "warmup", "none"] = "bias", *, start: int = 0) -> "EMA":
        """Returns the average whose memory spans ``horizon`` steps: α = 1 − 1/horizon."""
        if not is_within(horizon, 1):
            raise ValueError(f"horizon must be at least 1 step, not {horizon}")
        return cls(1 - 1 / horizon, correction, start=start)

    def weight_of(self, n: Scalar) -> Scalar:
        if self.correction == "bias":
            return (1 - self.decay) / (1 - self.decay**n)
        if self.correction == "warmup":
            least, early = 1 - self.decay, 9 / (10 + n)  # 1 − (1 + n)/(10 + n)
            return early.clamp(min=least) if isinstance(early, Tensor) else max(least, early)
        return 1 - self.decay
