"""Pictures: a dictionary as its atoms, a sample as the atoms it is made of, cost against seconds. Plotly's figures."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thalweg.extras import needs

Shape = tuple[int, int]


def mosaic(atoms: Any, shape: Shape | None = None, columns: int | None = None) -> Tensor:
    """Returns a picture of all atoms, side by side, as grey levels ``(height, width)`` in uint8.

    Zero is the middle grey, and each atom's largest magnitude black or white.

    Arguments:
        atoms: ``(K, d)``, an array or a tensor.
        shape: of an atom, ``(height, width)`` of product d; a square, or else a row, by default.
        columns: atoms a row; about as many as rows by default.

    Raises:
        ValueError: a shape that is not d numbers.

    >>> mosaic(torch.tensor([[1.0, -1.0]]), (1, 2)).tolist()
    [[128, 128, 128, 128], [128, 255, 0, 128], [128, 128, 128, 128]]
    """
    rows = torch.as_tensor(atoms).double()
    count, size = rows.shape
    root = math.isqrt(size)
    height, width = shape or ((root, root) if root * root == size else (1, size))
    if height * width != size:
        raise ValueError(f"shape is {shape} for atoms of {size} numbers: pass a height and a width with that product")
    across = columns or math.ceil(math.sqrt(count * height / width))
    scaled = rows / rows.abs().amax(1, keepdim=True).clamp(min=1e-300)
    grey = (127.5 * (1 + scaled)).round().clamp(0, 255).to(torch.uint8).view(count, height, width)
    picture = torch.full((math.ceil(count / across) * (height + 1) + 1, across * (width + 1) + 1), 128).byte()
    for i, tile in enumerate(grey):
        top, left = 1 + i // across * (height + 1), 1 + i % across * (width + 1)
        picture[top : top + height, left : left + width] = tile
    return picture


def plot_atoms(atoms: Any, shape: Shape | None = None, columns: int | None = None) -> Any:
    """Returns a figure of :func:`mosaic`, with the same arguments."""
    with needs("compare", "a figure"):
        from plotly import graph_objects as go

    return _bare(go.Figure(_grey(mosaic(atoms, shape, columns))))


def plot_sample(sample: Any, code: Any, atoms: Any, shape: Shape | None = None, most: int = 10) -> Any:
    """Returns a figure of a sample, of what its code gives, and of its atoms, the heaviest first.

    Arguments:
        sample: x ``(d,)``.
        code: c ``(K,)``.
        atoms: D ``(K, d)``.
        shape: of a sample, see :func:`mosaic`.
        most: atoms shown.
    """
    with needs("compare", "a figure"):
        from plotly.subplots import make_subplots

    x, c, d = (torch.as_tensor(t).double() for t in (sample, code, atoms))
    heaviest = c.abs().argsort(descending=True, stable=True)[: min(most, int((c != 0).sum()))]
    titles = ["sample", "c D", *(f"{c[i]:+.2g}" for i in heaviest.tolist())]
    figure = make_subplots(1, len(titles), subplot_titles=titles, horizontal_spacing=0.01)
    for i, row in enumerate([x, c @ d, *d[heaviest]]):
        figure.add_trace(_grey(mosaic(row[None], shape)), 1, i + 1)
    return _bare(figure)


def plot_cost(runs: dict[str, tuple[Sequence[float], Sequence[float]]]) -> Any:
    """Returns a figure of cost against seconds.

    Arguments:
        runs: by name, seconds and costs, as an estimator's ``seconds_`` and ``error_``.
    """
    with needs("compare", "a figure"):
        from plotly import graph_objects as go

    figure = go.Figure([go.Scatter(x=list(s), y=list(e), name=name) for name, (s, e) in runs.items()])
    return figure.update_layout(xaxis_title="seconds", yaxis_title="cost")


def _grey(picture: Tensor) -> Any:
    with needs("compare", "a figure"):
        from plotly import graph_objects as go

    return go.Heatmap(z=picture.flip(0).tolist(), zmin=0, zmax=255, colorscale="gray", showscale=False)


def _bare(figure: Any) -> Any:
    figure.update_xaxes(visible=False, constrain="domain")
    for i, axis in enumerate(figure.select_yaxes(), 1):
        axis.update(visible=False, scaleanchor=f"x{i if i > 1 else ''}", constrain="domain")
    return figure
