"""Mends that several checks share: each a line of code to show, and what does the same."""

from torch import Generator, nn

from thalweg.diagnosis.findings import Mend
from thalweg.diagnosis.observe import Seen
from thalweg.diagnosis.watch import Layer
from thalweg.initialization.data_driven import scale_by_data
from thalweg.initialization.model import initialize


def rescale(seen: Seen, center: bool = False) -> tuple[str, Mend]:
    """Scales every layer by the batch: each keeps the direction of its weights.

    >>> from torch import ones
    >>> from thalweg.diagnosis.observe import observe
    >>> rescale(observe(nn.Linear(1, 1), (ones(2, 1), ones(2, 1)), nn.functional.mse_loss))[0]
    'thalweg.initialization.scale_by_data(model, inputs)'
    """
    inputs = seen.inputs

    def mend(model: nn.Module) -> None:
        scale_by_data(model, inputs, center=center)

    return f"thalweg.initialization.scale_by_data(model, inputs{', center=True' if center else ''})", mend


def redraw(layer: Layer, safe: bool) -> tuple[str, Mend | None]:
    """Draws one layer anew; safe where its units are all alike or 0, so that nothing was learned in it.

    >>> from torch import ones
    >>> print(redraw(Layer("2", nn.Linear(1, 1), ones(1)), safe=True)[0])
    thalweg.initialization.initialize(model.get_submodule('2'), "he")
    """
    name = layer.name

    def mend(model: nn.Module) -> None:
        initialize(model.get_submodule(name), "he", Generator().manual_seed(0))

    return f'thalweg.initialization.initialize(model.get_submodule({name!r}), "he")', mend if safe else None
