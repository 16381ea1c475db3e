"""What is searched of an optimizer that is not built in, as far as its class or function tells.

Its learning rate is searched around its own default, two decades to either side, which is how wide the built-in
strategies are searched. Exceptions:

- torch's own optimizers have the range of the built-in strategy of the same rule: the default of ``torch.optim.SGD``
  is not meant as a middle. ``torch.optim.Muon`` is searched around the default of its authors, 0.02 (Jordan et al.
  2024).
- One that finds its step size itself has the default 1, of which its authors say to leave it alone (D-Adaptation,
  Defazio & Mishchenko 2023; Prodigy, Mishchenko & Defazio 2023). It is searched from 0.3 to 3. Such an optimizer is
  told by an argument for its first estimate, ``d0``.
- One without an argument ``lr``, or that does without one if it is None, has nothing that is searched.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from thalweg.rules import SPACES

LR_RANGE = (1e-4, 1.0)  # where there is no default
DECADES = 100.0
ITSELF = (0.3, 3.0)  # of one that finds its step size itself
MUON = (1e-4, 1.0)

Space = dict[str, tuple[float, float]]


def space_of(factory: Callable[..., Any]) -> Space:
    """Returns what is searched of an optimizer by default.

    >>> import torch
    >>> space_of(lambda params, lr=2e-3: None), space_of(torch.optim.SGD)
    ({'lr': (2e-05, 0.2)}, {'lr': (0.001, 1.0)})
    >>> space_of(lambda params, lr=1.0, d0=1e-6: None), space_of(lambda params, rho=0.9: None)
    ({'lr': (0.3, 3.0)}, {})
    """
    found = _parameters(factory)
    if found is None or (any(p.kind is p.VAR_KEYWORD for p in found.values()) and "lr" not in found):
        return {"lr": LR_RANGE}
    if "lr" not in found or (found["lr"].default is None and _computes_its_rate(factory)):
        return {}
    if (getattr(factory, "__module__", None) or "").startswith("torch.optim."):
        named = str(getattr(factory, "__name__", "")).lower()
        known = {"muon": {"lr": MUON}, **SPACES}
        if named in known:
            return dict(known[named])
    lr = own_rate(factory)
    if lr is None:
        return {"lr": LR_RANGE}
    return {"lr": ITSELF if finds_its_step(factory) else (_brief(lr / DECADES), _brief(lr * DECADES))}


def own_rate(factory: Callable[..., object]) -> float | None:
    """Returns the learning rate that a factory itself takes by default, as far as its signature tells."""
    lr = (_parameters(factory) or {}).get("lr")
    if lr is None or isinstance(lr.default, bool) or not isinstance(lr.default, (int, float)) or lr.default <= 0:
        return None
    return float(lr.default)


def finds_its_step(factory: Callable[..., object] | None) -> bool:
    """Says whether an optimizer finds its step size itself, of which ``lr`` is a factor."""
    return factory is not None and "d0" in (_parameters(factory) or {}) and own_rate(factory) == 1.0


def finds_in_words(name: str, factory: Callable[..., object] | None, space: Mapping[str, Any]) -> list[str]:
    """Returns the line about a strategy whose optimizer finds its step size itself, and which is searched so.

    >>> finds_in_words("prodigy", lambda params, lr=1.0, d0=1e-6: None, {"lr": ITSELF})
    ['prodigy finds its step size itself: its lr, a factor of it, is searched from 0.3 to 3']
    """
    if not finds_its_step(factory) or space.get("lr") != ITSELF:
        return []
    low, high = ITSELF
    return [f"{name} finds its step size itself: its lr, a factor of it, is searched from {low:g} to {high:g}"]


def _computes_its_rate(factory: Callable[..., Any]) -> bool:
    """Says whether an optimizer that has no learning rate by default needs none; others only want to be given one."""
    try:
        factory([torch.nn.Parameter(torch.zeros(2, 2))])
    except Exception:
        return False
    return True


def _parameters(factory: Callable[..., object]) -> Mapping[str, inspect.Parameter] | None:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return None


def _brief(value: float) -> float:
    return float(f"{value:.6g}")
