"""Values that write down what is done with them, as lines of a Triton kernel."""

import math
from dataclasses import dataclass, field
from typing import Union

Operand = Union["Symbol", float]


@dataclass
class Lines:
    """The lines of a kernel that are written so far; each makes one name, which begins with the prefix."""

    prefix: str = "x"
    text: list[str] = field(default_factory=list)

    def new(self, expression: str, wide: bool) -> "Symbol":
        """Writes a line that names an expression; returns its value."""
        name = f"{self.prefix}{len(self.text)}"
        self.text.append(f"{name} = {expression}")
        return Symbol(name, self, wide)


@dataclass(frozen=True, eq=False)
class Symbol:
    """A value that a kernel will have, which answers to the operators of a tensor.

    Every operation is rounded once, as torch's own kernels do it.

    Attributes:
        name: what the kernel calls it.
        wide: whether it is a number, or numbers, in float64; else in float32.

    >>> lines = Lines()
    >>> x = Symbol("x", lines, wide=False)
    >>> _ = -(x * 2 + x).sqrt() / x
    >>> lines.text
    ['x0 = x * 2.0', 'x1 = x0 + x', 'x2 = tl.sqrt_rn(x1)', 'x3 = -x2', 'x4 = tl.div_rn(x3, x)']
    """

    name: str
    lines: Lines
    wide: bool

    def __add__(self, other: Operand) -> "Symbol":
        return self._new(f"{self.name} + {text(other)}")

    def __radd__(self, other: float) -> "Symbol":
        return self._new(f"{text(other)} + {self.name}")

    def __sub__(self, other: Operand) -> "Symbol":
        return self._new(f"{self.name} - {text(other)}")

    def __rsub__(self, other: float) -> "Symbol":
        return self._new(f"{text(other)} - {self.name}")

    def __mul__(self, other: Operand) -> "Symbol":
        return self._new(f"{self.name} * {text(other)}")

    def __rmul__(self, other: float) -> "Symbol":
        return self._new(f"{text(other)} * {self.name}")

    def __truediv__(self, other: Operand) -> "Symbol":
        return self._divided(self, other)

    def __rtruediv__(self, other: float) -> "Symbol":
        return self._divided(other, self)

    def __mod__(self, other: Operand) -> "Symbol":
        whole = self._new(f"tl.floor({self.name} / {text(other)})")
        return self - whole * other

    def __neg__(self) -> "Symbol":
        return self._new(f"-{self.name}")

    def __pow__(self, other: Operand) -> "Symbol":
        return self._new(f"tl.exp2({text(other)} * tl.log2({self.name}))")

    def __rpow__(self, other: float) -> "Symbol":
        return self._new(f"tl.exp2({self.name} * {text(math.log2(other))})")

    def __gt__(self, other: Operand) -> "Symbol":
        return self._new(f"({self.name} > {text(other)}).to({'tl.float64' if self.wide else 'tl.float32'})")

    def sqrt(self) -> "Symbol":
        """Returns the square roots."""
        return self._new(f"tl.sqrt({self.name})" if self.wide else f"tl.sqrt_rn({self.name})")

    def maximum(self, other: "Symbol") -> "Symbol":
        """Returns the elementwise larger values; NaN where one is."""
        return self._new(f"tl.maximum({self.name}, {other.name}, propagate_nan=tl.PropagateNan.ALL)")

    def clamp(self, min: Operand) -> "Symbol":
        """Returns the values, none below the least; NaN where one is."""
        return self._new(f"tl.maximum({self.name}, {text(min)}, propagate_nan=tl.PropagateNan.ALL)")

    def abs(self) -> "Symbol":
        """Returns the magnitudes."""
        return self._new(f"tl.abs({self.name})")

    def sign(self) -> "Symbol":
        """Returns −1, 0 or 1; NaN of NaN."""
        return self._new(f"tl.where({self.name} > 0, 1.0, tl.where({self.name} < 0, -1.0, {self.name}))")

    def log(self) -> "Symbol":
        """Returns the natural logarithms."""
        return self._new(f"tl.log({self.name})")

    def where(self, condition: "Symbol", other: "Symbol") -> "Symbol":
        """Returns these values where the condition holds, and the other's elsewhere."""
        return self._new(f"tl.where({condition.name} != 0, {self.name}, {other.name})")

    def _divided(self, above: Operand, below: Operand) -> "Symbol":
        a, b = text(above), text(below)
        return self._new(f"{a} / {b}" if self.wide else f"tl.div_rn({a}, {b})")

    def _new(self, expression: str) -> "Symbol":
        return self.lines.new(expression, self.wide)


def text(value: Operand) -> str:
    """Returns a value as a kernel has it.

    >>> text(2), text(-0.5), text(math.inf)
    ('2.0', '(-0.5)', 'float("inf")')
    """
    if isinstance(value, Symbol):
        return value.name
    value = float(value)
    if not math.isfinite(value):
        return f'float("{value}")'
    return repr(value) if math.copysign(1, value) > 0 else f"({value!r})"
