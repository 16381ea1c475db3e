"""Names of former releases: they work for one release more, with a DeprecationWarning."""

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def renamed(given: Mapping[str, Any], names: Mapping[str, str], stacklevel: int = 3) -> dict[str, Any]:
    """Returns options by their present names.

    Arguments:
        given: options by present or former names.
        names: the present name of each former one.
        stacklevel: of the warning; 3 points to the caller of the function that calls this one.

    Raises:
        ValueError: an option stands under both of its names.
    """
    found = dict(given)
    for former, name in names.items():
        if former in found:
            if name in found:
                raise ValueError(f"options has {former!r} and {name!r}, two names for one thing: keep {name!r}")
            message = f"the option {former!r} is now called {name!r}: rename it"
            warnings.warn(message, DeprecationWarning, stacklevel=stacklevel)
            found[name] = found.pop(former)
    return found


def by_present_names(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Returns keyword arguments that were given by former names. Raises TypeError for any other."""
    for name in given.keys() - names.keys():
        raise TypeError(f"got an unexpected keyword argument {name!r}")
    return renamed(given, names, stacklevel=4)


def former_attributes(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns a module's ``__getattr__`` that still knows the former names of what the module holds."""

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        message = f"{module}.{name} is now called {names[name]}: rename it"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[module], names[name])

    return get
