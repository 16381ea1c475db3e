"""Dictionaries of natural images: of two photographs, and of a noisy part of one; and the picture that each gives back.

The part is left out of the photographs that are learnt from.
"""

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_image
from torch import Tensor

from thalweg.coordinate import (
    MiniBatchDictionaryLearning,
    from_patches,
    lasso,
    mosaic,
    orthogonal_matching_pursuit,
    patches,
)

SIZE, ATOMS, NOISE = 8, 128, 0.1  # pixels, atoms, standard deviation where white is 1
TOP, LEFT, SIDE = 100, 200, 160  # the part of the photograph
SAMPLES = 20_000  # patches of the photographs


def draw() -> Figure:
    """Returns the noisy part, the atoms of the photographs and of the part, what each gives back, the clean part."""
    draws = torch.Generator().manual_seed(0)
    flower, china = (torch.from_numpy(load_sample_image(f"{name}.jpg").mean(2) / 255) for name in ("flower", "china"))
    clean = flower[TOP : TOP + SIDE, LEFT : LEFT + SIDE].clone()
    noisy = clean + NOISE * torch.randn(clean.shape, generator=draws, dtype=torch.float64)
    rows = patches(noisy, SIZE)
    means = rows.mean(1, keepdim=True)
    rows = rows - means
    others = torch.cat([patches(china, SIZE), patches(flower[:, LEFT + SIDE :], SIZE), patches(flower[:, :LEFT], SIZE)])
    others = others[torch.randperm(len(others), generator=draws)[:SAMPLES]]
    learnt = {
        "two photographs": _atoms(others - others.mean(1, keepdim=True), alpha=NOISE),
        "the noisy part": _atoms(rows, alpha=2 * NOISE),
    }
    print(f"noisy {_psnr(noisy, clean):.1f} dB, {len(rows):,} patches")
    images = {}
    for source, atoms in learnt.items():
        ways = {
            "lasso": lasso(rows, atoms, 2 * NOISE).codes,
            "matching pursuit": orthogonal_matching_pursuit(rows, atoms, tol=rows.shape[1] * (1.15 * NOISE) ** 2),
        }
        for way, codes in ways.items():
            image = from_patches(codes @ atoms + means, (SIDE, SIDE), SIZE)
            used = (codes != 0).double().sum(1).mean()
            print(f"atoms of {source}, {way}: {_psnr(image, clean):.1f} dB, {used:.1f} atoms a patch")
        images[source] = image  # by matching pursuit
    shown = {f"noisy, {_psnr(noisy, clean):.1f} dB": noisy}
    for source, atoms in learnt.items():
        shown[f"atoms of {source}"] = mosaic(atoms) / 255
        shown[f"denoised by them, {_psnr(images[source], clean):.1f} dB"] = images[source]
    shown["clean"] = clean
    figure = Figure(figsize=(11, 7.5))
    for axes, (title, picture) in zip(figure.subplots(2, 3).flat, shown.items(), strict=True):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
        axes.set_title(title)
        axes.set_axis_off()
    return figure


def _atoms(rows: Tensor, alpha: float) -> Tensor:
    """Returns a dictionary of the rows."""
    learner = MiniBatchDictionaryLearning(ATOMS, alpha=alpha, max_iter=3, random_state=0).fit(rows)
    return torch.from_numpy(learner.components_)


def _psnr(image: Tensor, clean: Tensor) -> float:
    """Returns the peak signal-to-noise ratio in decibels, where white is 1."""
    return float(-10 * ((image - clean) ** 2).mean().log10())
