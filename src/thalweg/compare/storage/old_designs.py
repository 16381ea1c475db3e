"""Designs of studies that were written before, in the words of today."""

from collections.abc import Mapping
from typing import Any

from thalweg.compare.design import PROTOCOL, SEQUENTIAL
from thalweg.compare.names import check_name
from thalweg.initialization import SCHEMES

MIXED = "parameters of two dimensions or more under thalweg's rules, and on all parameters under other optimizers"


# Modules whose functions make optimizers, where they stood before: a design names a factory by its module.
MOVED = {"thalweg.compare.second_order.": "thalweg.compare.strategy.second_order."}


def as_meant(design: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a stored design in the words of today.

    Before designs stated a ``protocol``, it was the first; before they stated by what they ``judge``, it was the
    metric. Before ``decay`` was a setting, rules decayed weights alone, and all other optimizers as they do by default;
    an initialization called by its name alone had the gain of the nonlinearity that follows.

    >>> adamw = {"optimizer": "AdamW()", "defaults": {"weight_decay": 0.01}, "space": {}, "initialization": "he"}
    >>> old = as_meant({"strategies": [adamw]})
    >>> old["decay"], old["strategies"][0]["initialization"], as_meant({"strategies": [adamw], "decay": "all"})["decay"]
    ('weights', 'he-gain', 'all')
    """
    strategies = [{**s, "optimizer": _as_placed(s["optimizer"])} for s in design["strategies"]]
    design = {"protocol": 1, "within": None, "judge": "metric", **design}
    if "decay" in design:
        return {**design, "strategies": strategies}
    made = [s for s in strategies if "(" not in s["optimizer"] and not s.get("closure")]  # by a factory
    tuned = any("weight_decay" in s["space"] or s["defaults"].get("weight_decay") for s in strategies)
    then = MIXED if made else "weights" if tuned else "all"
    gained = [{**s, "initialization": f"{s['initialization']}-gain"} if _heeds(s) else s for s in strategies]
    return {**design, "decay": then, "strategies": gained}


def is_former(design: Mapping[str, Any]) -> bool:
    """Says whether a stored design is one by which no study is begun any more.

    >>> is_former({"protocol": 2, "budget": {"looks": 4}}), is_former({"protocol": 2, "budget": {"looks": 1}})
    (True, False)
    """
    return design["protocol"] < (SEQUENTIAL if design["budget"].get("looks", 1) > 1 else PROTOCOL)


def check_names(design: Mapping[str, Any]) -> None:
    """Raises ValueError where a name in a stored design could not be one of this program's."""
    for what in ("name", "metric"):
        check_name(f"the task's {what}" if what != "name" else "the task", design["task"][what])
    for strategy in design["strategies"]:
        check_name("a strategy", strategy["name"])


def _as_placed(optimizer: str) -> str:
    """Returns the name of an optimizer's maker with the module that it stands in now."""
    before = next((name for name in MOVED if optimizer.startswith(name)), "")
    return MOVED.get(before, "") + optimizer.removeprefix(before)


def _heeds(strategy: Mapping[str, Any]) -> bool:
    """Says whether the strategy's initialization depends on the nonlinearity that follows."""
    scheme = SCHEMES.get(strategy.get("initialization", "default"))
    return scheme is not None and scheme.heeds
