"""Which strategy trains a model best: tasks, strategies, design, engines, store, statistics, report.

The package itself can be called: ``thalweg.compare(...)`` is :func:`thalweg.compare.run.compare`.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thalweg.compare.comparison import Comparison


class _Callable(ModuleType):
    """A module that runs a comparison when it is called: one name for the function and for its package."""

    def __call__(self, *args: Any, **options: Any) -> "Comparison":
        from thalweg.compare.run import compare

        return compare(*args, **options)


sys.modules[__name__].__class__ = _Callable
