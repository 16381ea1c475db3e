"""A residual block: what it computes is added to a linear path, along which gradients reach the lowest layers.

    y = s(x) + f(x)      as it is, or starting at zero: f = 0 at first
    y = s(x) + α f(x)    gated, α = 0 at first

With s the identity, ∂J/∂x = ∂J/∂y + (∂f/∂x)ᵀ ∂J/∂y: the first term is not multiplied by any weight, however many
blocks there are.

Source: Deep Learning, §8.7.5; Srivastava, Greff & Schmidhuber 2015; He, Zhang, Ren & Sun 2015.
"""

from typing import Literal

import torch
from torch import Generator, Tensor, fx, nn

from thalweg.architecture.linear_start import draw_seed, linear_start
from thalweg.tensors.as_trained import as_trained
from thalweg.tensors.known import overridden
from thalweg.tensors.layers import NORMS, WEIGHTED
from thalweg.tensors.private import ConvolutionBase, own_parameters

Start = Literal["zero", "gate"]
_CONVOLUTIONS = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}


class Undecided(nn.Module):
    """Stands for a shortcut until a batch shows the shapes; its weight, not yet there, becomes the projection's.

    An optimizer made before the first batch therefore holds the parameter that it is to train, and whatever needs
    to know the parameters' sizes says, in torch's words, that there is an uninitialized one.
    """

    def __init__(self, branch: nn.Module, seed: int) -> None:
        super().__init__()
        like = next(branch.parameters(), torch.empty(0))
        self.weight = nn.UninitializedParameter(device=like.device, dtype=like.dtype)  # type: ignore[call-arg]
        self.convolutional = any(isinstance(module, ConvolutionBase) for module in branch.modules())
        self.seed = seed

    def decide(self, x: Tensor, y: Tensor) -> nn.Module:
        """Returns the shortcut from ``x``, the branch's input, to ``y``, its output.

        Raises:
            ValueError: no linear layer or 1×1 convolution gives that shape.
        """
        if x.shape == y.shape:
            return nn.Identity()
        if self.convolutional and x.dim() == y.dim() and x.dim() in _CONVOLUTIONS:
            strides = tuple(map(_stride, x.shape[2:], y.shape[2:]))
            if x.shape[0] == y.shape[0] and all(strides):
                kind = _CONVOLUTIONS[x.dim()]
                return self._become(kind(x.shape[1], y.shape[1], 1, strides, bias=False, device="meta"))  # type: ignore[arg-type]
        elif x.shape[:-1] == y.shape[:-1]:
            return self._become(nn.Linear(x.shape[-1], y.shape[-1], bias=False, device="meta"))
        raise ValueError(
            f"no {'1×1 convolution' if self.convolutional else 'linear layer'} maps {tuple(x.shape)} to the branch's "
            f"{tuple(y.shape)}: pad the branch so that sizes are kept or divided, or pass shortcut=, a module that does"
        )

    def _become(self, projection: nn.Linear | ConvolutionBase) -> nn.Module:
        shape = tuple(projection.weight.shape)
        with torch.inference_mode(False), torch.no_grad():
            self.weight.materialize(shape)
            self.weight.copy_(linear_start(shape, self.seed))
        projection.weight = self.weight
        return projection


def _stride(before: int, after: int) -> int:
    """Returns the least stride that takes one size to the other, 0 if none does."""
    return next((s for s in range(1, before + 1) if (before - 1) // s + 1 == after), 0)


class Residual(nn.Module):
    """y = s(x) + f(x), with a shortcut s around a branch f.

    Arguments:
        branch: f, any module from one tensor to one.
        shortcut: s. ``"auto"`` is the identity where f keeps the shape; else a 1×1 convolution with the branch's
            stride if there are convolutions in it, or a linear layer on the last dimension, both without bias and
            starting from N(0, 1/fan-in).
        start: ``"zero"`` sets the weight and bias of f's last normalization or layer to 0, so that the block starts
            as its shortcut and what comes before in f learns from the second step on; modules without parameters
            behind it are taken to keep zeros. ``"gate"`` leaves f as it is and multiplies it by a learned scalar
            ``gate`` that starts at 0, for branches of every kind. None: as it is.
        probe: an input, one example will do, by which an automatic shortcut is decided at once; without it the
            first batch decides, which must come before compiling and before the model's parameters are counted.
        generator: source of the projection's weights; torch's global one by default.

    Raises:
        ValueError: a branch that cannot start at zero, or changes its input in place; an unknown start; shapes that
            do not agree, when the block runs.

    >>> block = Residual(nn.Sequential(nn.ReLU(), nn.Linear(3, 3)))
    >>> x = torch.randn(2, 3)
    >>> torch.equal(block(x), x)
    True
    >>> halved = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8))
    >>> Residual(halved, probe=torch.zeros(1, 3, 6, 6)).shortcut
    Conv2d(3, 8, kernel_size=(1, 1), stride=(2, 2), bias=False)

    Source: Deep Learning, §8.7.5; He et al. 2015; Goyal et al. 2017 (zero); Bachlechner et al. 2020 (ReZero) and
    De & Smith 2020 (SkipInit) for the gate.
    """

    gate: nn.Parameter | None

    def __init__(
        self,
        branch: nn.Module,
        shortcut: nn.Module | Literal["auto"] = "auto",
        start: Start | None = "zero",
        *,
        probe: Tensor | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if start not in ("zero", "gate", None):
            raise ValueError(f"unknown start {start!r}: choose zero, gate or None")
        if not isinstance(shortcut, nn.Module) and shortcut != "auto":
            raise ValueError(f"unknown shortcut {shortcut!r}: pass auto or a module")
        chain = _chain(branch)
        if chain and getattr(chain[0], "inplace", False):
            raise ValueError(f"the branch starts with {chain[0]}, which would change the shortcut: pass inplace=False")
        end = _end(chain) if start == "zero" else None
        self.branch = branch
        self.shortcut = Undecided(branch, draw_seed(generator)) if isinstance(shortcut, str) else shortcut
        like = next(branch.parameters(), torch.empty(0))
        gate = nn.Parameter(torch.zeros((), device=like.device, dtype=like.dtype)) if start == "gate" else None
        self.register_parameter("gate", gate)
        if probe is not None:
            with as_trained(self), torch.no_grad():
                self(probe)
        if end is not None:
            with torch.no_grad():
                for p in end.parameters():
                    p.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``s(x) + f(x)``."""
        branch = self.branch(x)
        if isinstance(self.shortcut, Undecided):
            self.shortcut = self.shortcut.decide(x, branch)
        shortcut = self.shortcut(x)
        _check_shapes(x, shortcut, branch)
        return (branch if self.gate is None else self.gate * branch) + shortcut


def _check_shapes(x: Tensor, shortcut: Tensor, branch: Tensor) -> None:
    """Raises ValueError unless the two can be added without broadcasting."""
    if shortcut.shape != branch.shape:
        raise ValueError(
            f"on input {tuple(x.shape)} the shortcut gives {tuple(shortcut.shape)} and the branch "
            f"{tuple(branch.shape)}: pass shortcut=, a module that gives the branch's shape"
        )


fx.wrap("_check_shapes")  # one piece to a tracer, to which shapes have no values


def _chain(branch: nn.Module) -> list[nn.Module]:
    """Returns the modules that run one after another, as far as they are known to."""
    return [m for child in branch for m in _chain(child)] if isinstance(branch, nn.Sequential) else [branch]


def _end(chain: list[nn.Module]) -> nn.Module:
    """Returns the last normalization or layer, whose scale at zero makes the branch zero.

    Raises:
        ValueError: there is none to be seen, or what follows it gives no zero or passes no gradient on.
    """
    remedy = "start that at zero yourself and pass start=None, or pass start='gate'"
    for module in reversed(chain):
        name = type(module).__name__
        if isinstance(module, (*NORMS, *WEIGHTED)):
            if own_parameters(module).get("weight") is None:
                raise ValueError(
                    f"the branch ends in a {name} that has no weight of its own to start at zero: {remedy}"
                )
            if why := overridden(module, (*NORMS, *WEIGHTED)):
                raise ValueError(f"the branch ends in a {name} whose start is not known: {why}; {remedy}")
            return module
        if name in nn.modules.activation.__all__ and not isinstance(module, nn.MultiheadAttention):
            like = next(module.parameters(), torch.empty(2))  # of a PReLU, the slopes of its channels
            zero = torch.zeros(2, len(like), device=like.device, dtype=like.dtype, requires_grad=True)
            with torch.random.fork_rng(devices=[]), torch.enable_grad():
                value = module(zero)
                (slope,) = torch.autograd.grad(value.sum(), zero)
            if value.any() or not slope.all():
                what = "is not 0 at 0" if value.any() else "passes no gradient at 0, so that it would never learn"
                raise ValueError(
                    f"the branch ends in a {name}, which {what}: put it before the last layer, or pass start='gate'"
                )
        elif next(module.children(), None) is not None or next(module.parameters(), None) is not None:
            raise ValueError(f"the last layer of a {name} cannot be determined: {remedy}")
    raise ValueError(f"the branch has no normalization or layer to start at zero: {remedy}")
