"""Fixtures around the small brain."""

import numpy as np
import pytest
from small_brain import STEPS, make_brain, save

from twinvae.imaging import ScanFiles, fit_recipe


@pytest.fixture
def brain():
    return make_brain()


@pytest.fixture
def recipe():
    return fit_recipe(STEPS)


@pytest.fixture
def put(tmp_path):
    """Write a brain and its masks; returns ScanFiles."""

    def write(brain, name="scan", *, brain_mask=True, tumour=True, **more):
        folder = tmp_path / name
        return ScanFiles(
            subject=more.pop("subject", name),
            role=more.pop("role", "mixed"),
            split=more.pop("split", "test"),
            source=more.pop("source", "s"),
            image=save(folder / "image.nii", brain.image, brain.affine, **more),
            brain_mask=save(folder / "brain.nii", brain.mask, brain.affine, np.uint8)
            if brain_mask
            else None,
            tumour_mask=save(folder / "tumour.nii", 4 * brain.tumour, brain.affine, np.uint8)
            if tumour
            else None,
        )

    return write
