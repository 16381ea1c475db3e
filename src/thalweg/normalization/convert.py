"""torch's batch normalizations of a model replaced by thalweg's, with their parameters and statistics."""

import warnings
from typing import Any, TypeVar

from torch import nn

from thalweg.normalization.module import BatchNorm
from thalweg.tensors.known import listed, obstacle, put_in_place
from thalweg.tensors.private import BatchNormBase

M = TypeVar("M", bound=nn.Module)

TORCHS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def convert_batch_norm(model: M, **options: Any) -> M:
    """Replaces torch's batch normalizations by :class:`BatchNorm` in place; returns the model.

    They keep their parameters, buffers, settings and hooks: optimizers, averages and saved states go on as before.

    Arguments:
        model: any module that contains them; for one that is itself a batch normalization another is returned.
            Subclasses of torch's, and those with a parametrized weight or that have not run yet, are left alone.
        options: of :class:`BatchNorm`, such as ``ghost`` or ``momentum``, for all of them.

    Raises:
        ValueError: an option out of its range.

    Warns:
        UserWarning: normalizations are left, each of them named with the reason.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    >>> convert_batch_norm(net, ghost=32)[1]
    BatchNorm(3, eps=1e-05, momentum=0.1, affine=True, ...ghost=32)
    """
    norms = {n: m for n, m in model.named_modules() if isinstance(m, BatchNormBase)}
    norms = {name: norm for name, norm in norms.items() if not isinstance(norm, BatchNorm)}
    left = {name: why for name, norm in norms.items() if (why := _unlike(norm))}
    made: dict[nn.Module, Any] = {n: _converted(n, options) for name, n in norms.items() if name not in left}
    put_in_place(model, made)
    if left:
        warnings.warn(f"some batch normalizations are not converted{listed(left)}", stacklevel=2)
    return made.get(model, model)


def _unlike(norm: nn.Module) -> str | None:
    """Returns why the normalization is not replaced; None where it is one of torch's."""
    if why := obstacle(norm, TORCHS, hooks=True):
        return why
    return None if type(norm) in TORCHS else f"a {type(norm).__name__} may have more features than torch's"


def _converted(norm: Any, options: dict[str, Any]) -> BatchNorm:
    settings = {
        "eps": norm.eps,
        "momentum": norm.momentum,
        "affine": norm.affine,
        "track_running_stats": norm.track_running_stats,
        "device": "meta",
        "synchronize": (norm.process_group or True) if isinstance(norm, nn.SyncBatchNorm) else False,
    }
    own = BatchNorm(norm.num_features, **{**settings, **options})
    changed = {key: vars(own)[key] for key in ("eps", "momentum", "ghost", "synchronize", "dim")}
    own.__dict__ = {**vars(norm), **changed}  # hooks and what has been noted on it come along
    return own
