"""The learning-rate range test, by paired differences, so that a noisy loss does not mislead it.

One run of plain gradient descent (or any optimizer) while the learning rate rises from step to step. What is looked at
is not the loss, which differs from batch to batch, but what each step does to the loss of the *next* batch, which the
step has not seen:

    d_t = J(θ_{t+1}; b_{t+1}) − J(θ_t; b_{t+1})

Both values are of the same batch and the same random draws, so that the noise between batches drops out, and d_t is
unbiased for what the step does to the expected loss. Windows of neighbouring steps are then tested, and a rate is
suggested only where the decrease is sure.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.diagnosis.batches import Batch, as_batch
from thalweg.diagnosis.findings import Finding, RangeTest
from thalweg.diagnosis.observe import Loss, Seen, brief
from thalweg.tensors.as_trained import as_trained, put_back

WINDOW = 16
LEVEL = 0.05
RISE, FALL = 0.1, 1e-3  # shares of the first loss that count as one


def learning_rate_range(
    model: nn.Module,
    batches: Sequence[Any],
    loss: Loss,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer] | None = None,
) -> RangeTest:
    """Runs the test from ``low`` to ``high`` and says which learning rate to start from, or that none is found.

    The suggestion is the middle of the window of 16 steps over which the loss falls most, among those where it surely
    falls: by a thousandth of the first loss, and d_t / lr_t, whose members are alike, below 0 by Student's t at 5 %,
    Bonferroni over the windows. Where there is none, none is suggested.
    Parameters, buffers, modes and draws are afterwards what they were.

    Arguments:
        model: any module.
        batches: ``(inputs, target)`` pairs, in the order of the steps, from the first again when all are used.
        loss: ``(output, target) -> scalar``.
        low, high: first and last learning rate, evenly spaced in logarithm between.
        steps: how many at most; the test ends where the summed changes have risen by a tenth of the first loss above
            their least, or the loss is not finite.
        optimizer: from parameters to the optimizer under test, whose ``lr`` is set; plain gradient descent by default.

    Raises:
        ValueError: no batches, bad bounds, or fewer than 16 steps; nothing to train.

    >>> torch.manual_seed(0)
    <torch._C.Generator object at ...>
    >>> x = torch.randn(512, 4)
    >>> y = x @ torch.ones(4, 1) + 0.1 * torch.randn(512, 1)
    >>> test = learning_rate_range(nn.Linear(4, 1), [*zip(x.split(32), y.split(32))], nn.functional.mse_loss)
    >>> 0.01 < test.best < 1.0
    True

    Source: Smith 2017 (the test); Deep Learning, §8.3.1, §11.4.1.
    """
    if not batches or not 0 < low < high < math.inf or steps < 2 * WINDOW:
        raise ValueError(
            f"{len(batches)} batches, low {low}, high {high}, {steps} steps: give at least one batch, 0 < low < "
            "high, and "
            f"at least {2 * WINDOW} steps"
        )
    params = [p for p in model.parameters() if p.requires_grad]
    if not params:
        raise ValueError("no parameter is trained: set requires_grad on the parameters to train")
    lrs = [low * (high / low) ** (i / (steps - 1)) for i in range(steps)]
    with as_trained(model), put_back(params):
        step = _step_of(optimizer(list(params))) if optimizer else _descend
        losses, changes = _run(model, [as_batch(b) for b in batches], loss, lrs, step, params)
    return _judge(lrs[: len(changes)], losses, changes)


def _run(
    model: nn.Module,
    batches: Sequence[Batch],
    loss: Loss,
    lrs: Sequence[float],
    step: Callable[[Sequence[Tensor], float], None],
    params: Sequence[Tensor],
) -> tuple[list[float], list[float]]:
    losses: list[float] = []
    changes: list[float] = []
    alone = len(batches) == 1

    def value(i: int) -> Tensor:
        torch.manual_seed(i % len(batches))  # the draws of a batch are the same before and after a step
        return loss(model(*batches[i % len(batches)][0]), batches[i % len(batches)][1]).reshape(())

    here = value(0)
    for i, lr in enumerate(lrs):
        with torch.no_grad():
            before = here.item() if alone else value(i + 1).item()
        losses.append(here.item())
        for p, g in zip(params, torch.autograd.grad(here, params, allow_unused=True), strict=True):
            p.grad = g
        step(params, lr)
        here = value(i + 1)  # the next step's own loss too
        changes.append(here.item() - before)
        if not math.isfinite(changes[-1]) or _turn(changes, RISE * abs(losses[0])) < len(changes):
            break
    return losses, changes


@torch.no_grad()
def _descend(params: Sequence[Tensor], lr: float) -> None:
    """Takes a step of torch.optim.SGD, which takes seconds to make since it imports the compiler."""
    for p in params:
        if p.grad is not None:
            p.add_(p.grad, alpha=-lr)


def _step_of(optimizer: torch.optim.Optimizer) -> Callable[[Sequence[Tensor], float], None]:
    def step(_: Sequence[Tensor], lr: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()

    return step


def _judge(lrs: Sequence[float], losses: Sequence[float], changes: Sequence[float]) -> RangeTest:
    sound = [c for c in changes if math.isfinite(c)]
    size = abs(losses[0])
    turn = _turn(sound, RISE * size)
    highest = lrs[turn] if turn < len(lrs) else None
    starts = range(0, turn - WINDOW + 1, WINDOW // 2)
    falls = {start: sum(sound[start : start + WINDOW]) for start in starts}
    sure = [s for s in starts if falls[s] < -FALL * size and _falls(lrs, sound, s, len(starts))]
    best, why = (
        None,
        "not determined: no learning rate lowers the loss of the next batch significantly; pass more batches",
    )
    if sure:
        start = min(sure, key=falls.__getitem__)
        best = math.sqrt(lrs[start] * lrs[start + WINDOW - 1])
        end = f"from {highest:.2g} on, the loss rises" if highest else f"up to {lrs[-1]:.2g}, it does not rise"
        why = f"about this rate, a step of gradient descent lowers the loss of the next batch most; {end}"
    elif turn < WINDOW:
        why = "not determined: the loss diverges within a few steps of the lowest learning rate; start with a lower one"
    return RangeTest(tuple(lrs), tuple(losses), tuple(changes), best, highest, why)


def _turn(changes: Sequence[float], rise: float) -> int:
    """Returns after how many steps the summed changes are least before they first rise so much above that.

    Where they do not, it is the number of all steps, unless not all were finite.
    """
    least, at, height = 0.0, 0, 0.0
    for step, change in enumerate(changes, start=1):
        height += change
        if height < least:
            least, at = height, step
        elif height > least + rise:
            return at
    return len(changes)


def _falls(lrs: Sequence[float], changes: Sequence[float], start: int, windows: int) -> bool:
    """Says whether the mean of d_t / lr_t over a window, whose members are alike, is surely below 0."""
    from scipy.special import stdtrit  # of Student's t; scipy.stats takes a second to import

    over = slice(start, start + WINDOW)
    rates = torch.tensor(changes[over], dtype=torch.float64) / torch.tensor(lrs[over], dtype=torch.float64)
    half = float(stdtrit(WINDOW - 1, 1 - LEVEL / windows)) * float(rates.std()) / math.sqrt(WINDOW)
    return float(rates.mean()) + half < 0


def learning_rate(
    seen: Seen, more: Sequence[Batch], loss: Loss, steps: int = 100
) -> tuple[list[Finding], RangeTest | None]:
    """Notes the learning rate that the range test suggests, or that none can be determined; and returns the test.

    >>> from torch import nn, ones, zeros
    >>> from thalweg.diagnosis.observe import observe
    >>> flat = lambda y, t: (0 * y).sum()
    >>> found, _ = learning_rate(observe(nn.Linear(1, 1), (ones(8, 1), zeros(8, 1)), flat), [], flat)
    >>> found[0].meaning.startswith("not determined")
    True
    """
    kind = "learning rate"
    try:
        test = learning_rate_range(seen.model, [seen.batch, *more], loss, steps=steps)
    except (RuntimeError, ValueError) as error:
        return [Finding(kind, "note", "", 0.0, f"not determined: {brief(error)}")], None
    on = "" if more else "; this was measured on one batch, which is easier than many"
    if test.best is None:
        return [Finding(kind, "note", "", 0.0, test.why + on)], test
    fix = f"optimizer = torch.optim.SGD(model.parameters(), lr={test.best:.1g})"
    return [Finding(kind, "note", "", test.best, test.why + on, fix)], test
