"""Names of former releases: they work for one release more, with a DeprecationWarning."""

import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)


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
                raise ValueError(f"{former!r} and {name!r} are two names for one thing: keep {name!r}")
            message = f"the option {former!r} is now called {name!r}: rename it"
            warnings.warn(message, DeprecationWarning, stacklevel=stacklevel)
            found[name] = found.pop(former)
    return found


def former_keywords(names: Mapping[str, str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Returns a decorator with which a function takes keyword arguments by their former names also."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(*args, **renamed(kwargs, names))

        return call

    return decorate


def former_fields(names: Mapping[str, str]) -> Callable[[C], C]:
    """Returns a decorator with which a dataclass takes and gives its fields by their former names also."""

    def decorate(cls: C) -> C:
        cls.__init__ = former_keywords(names)(cls.__init__)  # type: ignore[misc]
        for former, name in names.items():
            get = functools.partial(_former_field, former=former, name=name)
            setattr(cls, former, property(get, doc=f"The former name of ``{name}``."))
        return cls

    return decorate


def _former_field(owner: Any, former: str, name: str) -> Any:
    message = f"{type(owner).__name__}.{former} is now called {name}: rename it"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return getattr(owner, name)


def former_attributes(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns a module's ``__getattr__`` that still knows the former names of what the module holds."""

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        message = f"{module}.{name} is now called {names[name]}: rename it"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[module], names[name])

    return get
