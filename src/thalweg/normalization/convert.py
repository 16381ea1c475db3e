"""torch's batch normalizations of a model replaced by thalweg's, with their parameters and statistics."""

from typing import Any, TypeVar

from torch import nn

from thalweg.normalization.module import BatchNorm

M = TypeVar("M", bound=nn.Module)

TORCHS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def convert_batch_norm(model: M, **options: Any) -> M:
    """Replaces torch's batch normalizations by :class:`BatchNorm` in place; returns the model.

    They keep their parameters, buffers and settings: optimizers, averages and saved states go on as before.

    Arguments:
        model: any module that contains them; subclasses of torch's, whose forward is not known, are left alone.
        options: of :class:`BatchNorm`, such as ``ghost`` or ``momentum``, for all of them.

    Raises:
        ValueError: an option out of its range.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    >>> convert_batch_norm(net, ghost=32)[1]
    BatchNorm(3, eps=1e-05, momentum=0.1, affine=True, ...ghost=32)
    """
    made: dict[nn.Module, BatchNorm] = {}
    for name, norm in list(model.named_modules(remove_duplicate=False)):
        if name and type(norm) in TORCHS:
            made.setdefault(norm, _converted(norm, options))
            model.set_submodule(name, made[norm])
    return model


def _converted(norm: Any, options: dict[str, Any]) -> BatchNorm:
    settings = {
        "eps": norm.eps, "momentum": norm.momentum, "affine": norm.affine,
        "track_running_stats": norm.track_running_stats, "device": "meta",
        "synchronize": (norm.process_group or True) if isinstance(norm, nn.SyncBatchNorm) else False,
    }  # fmt: skip
    own = BatchNorm(norm.num_features, **{**settings, **options})
    own._parameters, own._buffers = norm._parameters, norm._buffers
    return own.train(norm.training)
