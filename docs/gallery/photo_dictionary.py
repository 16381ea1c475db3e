"""A dictionary of a photograph's patches, learnt from the noisy picture itself, and the picture that it gives back."""

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


def draw() -> Figure:
    """Returns the noisy part of the photograph, the atoms, the denoised part and the clean one."""
    draws = torch.Generator().manual_seed(0)
    clean = torch.from_numpy(load_sample_image("flower.jpg").mean(2) / 255)
    clean = clean[TOP : TOP + SIDE, LEFT : LEFT + SIDE]
    noisy = clean + NOISE * torch.randn(clean.shape, generator=draws, dtype=torch.float64)
    rows = patches(noisy, SIZE)
    means = rows.mean(1, keepdim=True)
    rows = rows - means
    learner = MiniBatchDictionaryLearning(ATOMS, alpha=2 * NOISE, max_iter=3, random_state=0).fit(rows)
    atoms = torch.from_numpy(learner.components_)
    ways = {
        "lasso": lasso(rows, atoms, 2 * NOISE).codes,
        "matching pursuit": orthogonal_matching_pursuit(rows, atoms, tol=rows.shape[1] * (1.15 * NOISE) ** 2),
    }
    images = {way: from_patches(codes @ atoms + means, (SIDE, SIDE), SIZE) for way, codes in ways.items()}
    print(f"noisy {_psnr(noisy, clean):.1f} dB, {len(rows):,} patches")
    for way, codes in ways.items():
        used = (codes != 0).double().sum(1).mean()
        print(f"{way}: {_psnr(images[way], clean):.1f} dB, {used:.1f} atoms a patch")
    best = images["matching pursuit"]
    shown = {
        f"noisy, {_psnr(noisy, clean):.1f} dB": noisy,
        "atoms learnt from it": mosaic(atoms) / 255,
        f"denoised, {_psnr(best, clean):.1f} dB": best,
        "clean": clean,
    }
    figure = Figure(figsize=(11, 3))
    for axes, (title, picture) in zip(figure.subplots(1, 4), shown.items(), strict=True):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
        axes.set_title(title)
        axes.set_axis_off()
    return figure


def _psnr(image: Tensor, clean: Tensor) -> float:
    """Returns the peak signal-to-noise ratio in decibels, where white is 1."""
    return float(-10 * ((image - clean) ** 2).mean().log10())
