"""Patches and back, and pictures of what was learnt."""

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.image import extract_patches_2d, reconstruct_from_patches_2d

from thalweg.coordinate import from_patches, mosaic, patches, plot_atoms, plot_cost, plot_sample


def test_patches_are_scikit_learns():
    image = np.random.default_rng(0).normal(size=(9, 7))
    rows = patches(torch.from_numpy(image), 3)
    np.testing.assert_array_equal(rows.numpy(), extract_patches_2d(image, (3, 3)).reshape(-1, 9))
    changed = rows + torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
    back = reconstruct_from_patches_2d(changed.numpy().reshape(-1, 3, 3), (9, 7))
    np.testing.assert_allclose(from_patches(changed, (9, 7), 3).numpy(), back)


def test_an_image_smaller_than_a_patch_is_refused():
    with pytest.raises(ValueError, match="at least 8 × 8 pixels"):
        patches(torch.ones(5, 20), 8)


def test_a_mosaic_holds_each_atom_at_full_contrast():
    atoms = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
    picture = mosaic(atoms, (2, 3), columns=4)
    assert picture.shape == (2 * 3 + 1, 4 * 4 + 1)
    tile = picture[1:3, 5:8].double() / 127.5 - 1
    torch.testing.assert_close(tile, (atoms[1] / atoms[1].abs().max()).view(2, 3).double(), atol=0.01, rtol=0)
    assert (picture[4:, 13:] == 128).all()
    with pytest.raises(ValueError, match="shape"):
        mosaic(atoms, (2, 2))


def test_figures_show_what_they_are_given():
    atoms, code = torch.eye(4), torch.tensor([0.0, -3.0, 1.0, 0.0])
    assert len(plot_atoms(atoms).data) == 1
    figure = plot_sample(code, code, atoms)
    assert [a.text for a in figure.layout.annotations] == ["sample", "c D", "-3", "+1"]
    assert list(plot_cost({"a": ([0.0, 1.0], [5.0, 2.0])}).data[0].y) == [5.0, 2.0]
