"""``thalweg sparse-code``."""

import json
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thalweg.cli.console import Quiet, Terminal, progress_terminal, result_terminal
from thalweg.extras import needs

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = 16_384  # samples coded at once


def command(
    context: typer.Context,
    data: Annotated[
        Path, typer.Argument(help="An image, or a .npy file whose rows are samples.", metavar="IMAGE|ARRAY")
    ],
    atoms: Annotated[int, typer.Option(min=1, help="Number of atoms to learn.")] = 128,
    alpha: Annotated[
        float | None,
        typer.Option(min=0, help="Weight of the codes' ℓ1 norm.", show_default="a tenth of the samples' median norm"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("thalweg-sparse-code"),
    patch: Annotated[int, typer.Option(min=2, help="Height and width of a patch of the image, in pixels.")] = 8,
    epochs: Annotated[int, typer.Option(min=1, help="Maximum number of passes over the samples.")] = 10,
    most: Annotated[
        int, typer.Option(min=1, help="Maximum number of samples to learn from. All samples are coded.")
    ] = 100_000,
    seed: Annotated[int, typer.Option(help="Seed of the first atoms and of the order of the samples.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the numbers as JSON, and everything else to standard error.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Learn a dictionary from an image's patches or an array's rows, and code them sparsely.

    Images are converted to grey levels, and the mean of each patch is subtracted first. The command writes
    `dictionary.npy`, `codes.npz` (SciPy's sparse format), `dictionary.png` and, for an image, `rebuilt.png`.

    Example: `thalweg sparse-code photo.jpg --atoms 256`

    Exit codes: 0 finished; 2 invalid input.
    """
    import numpy as np
    import torch
    from scipy import sparse

    from thalweg.compare.arguments import SEED, check_whole
    from thalweg.coordinate import MiniBatchDictionaryLearning, from_patches, lasso, mosaic, patches

    check_whole("seed", seed, *SEED)
    for name, value in (("atoms", atoms), ("patch", patch), ("epochs", epochs)):
        check_whole(name, value, most=1_000_000)
    check_whole("most", most, most=2**40)
    if alpha is not None and not math.isfinite(alpha):
        raise ValueError(f"alpha must be a finite number, not {alpha}")
    context.with_resource(_each_warning_once())
    console, progress, images = result_terminal(as_json), progress_terminal(as_json), _pillow()
    array = _array(data, images)
    image = array if data.suffix.lower() != ".npy" else None
    samples = array if image is None else patches(array, patch, patch)
    means = samples.mean(1, keepdim=True) if image is not None else torch.zeros(len(samples), 1)
    windows = array[:, None] if image is None else array.unfold(0, patch, 1).unfold(1, patch, 1)  # a view: no copies
    total, across = len(windows) * windows.shape[1], windows.shape[1]
    chosen = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:most]
    learn_from = windows[chosen // across, chosen % across].flatten(1)
    if image is not None:
        learn_from = learn_from - learn_from.mean(1, keepdim=True)
    weight = float(learn_from.norm(dim=1).median()) / 10 if alpha is None else alpha
    shown = progress.is_terminal and not (progress.quiet or as_json)  # scikit-learn prints to standard output
    learner = MiniBatchDictionaryLearning(
        atoms,
        alpha=weight,
        max_iter=epochs,
        random_state=seed,
        verbose=shown,
    ).fit(learn_from)
    dictionary = torch.from_numpy(learner.components_)
    parts, gap = [], 0.0
    rebuilt = torch.empty_like(samples)
    for rows in torch.arange(len(samples)).split(_BATCH):
        found = lasso(samples[rows] - means[rows], dictionary, weight)
        rebuilt[rows] = found.codes @ dictionary + means[rows]
        parts.append(sparse.csr_array(found.codes.numpy()))
        gap = max(gap, float(found.gap.max()))
    codes = sparse.vstack(parts)

    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "dictionary.npy", learner.components_)
    sparse.save_npz(out / "codes.npz", codes)
    images.fromarray(mosaic(dictionary).numpy()).save(out / "dictionary.png")
    error = float(((samples - rebuilt) ** 2).mean())
    console.print(
        f"{atoms} atoms of {samples.shape[1]} numbers, learned from {len(learn_from):,} samples with alpha "
        f"{weight:.3g}\n"
        f"{len(samples):,} codes, {codes.nnz / max(1, codes.shape[0] * atoms):.1%} non-zero, duality gap at most "
        f"{gap:.0e}, root mean square error {error**0.5:.3g}",
        highlight=False,
    )
    if image is not None:
        height, width = (length // patch * patch for length in array.shape)
        whole = from_patches(rebuilt, (height, width), patch, patch)
        images.fromarray((255 * whole).round().clamp(0, 255).byte().numpy()).save(out / "rebuilt.png")
    console.print(f"-> {out}", highlight=False)
    if as_json:
        record = {
            "atoms": atoms,
            "features": samples.shape[1],
            "learned_from": len(learn_from),
            "alpha": weight,
            "codes": len(samples),
            "nonzero": codes.nnz / max(1, codes.shape[0] * atoms),
            "gap": gap,
            "root_mean_square_error": error**0.5,
            "folder": str(out),
        }
        print(json.dumps(record, indent=1, allow_nan=False))


@contextmanager
def _each_warning_once() -> Iterator[None]:
    """Runs its body with each warning as a line, once."""
    shown: set[str] = set()
    errors = Terminal(stderr=True, highlight=False, soft_wrap=True)

    def show(message: Warning | str, *location: Any, **options: Any) -> None:
        if str(message) not in shown:
            shown.add(str(message))
            errors.print(f"thalweg: {message}", style="yellow", markup=False)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _pillow() -> Any:
    with needs("images", "sparse-code"):
        from PIL import Image
    return Image


def _array(path: Path, images: Any) -> "Tensor":
    """Returns an image's grey levels from 0 to 1 ``(height, width)``, or an array's samples ``(n, d)``."""
    import numpy as np
    import torch

    if not path.is_file():
        raise ValueError(f"{path} does not exist: name an image or a .npy file")
    if path.suffix.lower() == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except Exception as error:  # a header at random brings up errors of every kind in NumPy's reader
            raise ValueError(f"{path} is not an array of numbers ({error}): save one with np.save") from error
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{path} is an archive of arrays: save one of them with np.save")
        if array.ndim != 2 or not array.size or array.dtype.kind not in "fiu":
            raise ValueError(
                f"{path} is {array.dtype} of shape {array.shape}: pass real numbers of shape (samples, features)"
            )
        with np.errstate(over="ignore"):
            single = array.astype(np.float32)
        if not np.isfinite(single).all():
            bad = int((~np.isfinite(single)).any(1).sum())
            raise ValueError(
                f"{path} contains NaN, infinity or numbers beyond single precision in {bad} rows: drop or replace them"
            )
        return torch.from_numpy(single)
    try:
        with images.open(path) as image:
            return torch.from_numpy(np.asarray(image.convert("L"), dtype=np.float32) / 255)
    except images.DecompressionBombError as error:
        raise ValueError(f"{path} is too large an image ({error}): crop or shrink it first") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is not a readable image ({error}): choose another file") from error
