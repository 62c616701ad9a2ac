"""NIfTI files with long header extensions, as AFNI leaves them in BraTS 2023 and IXI."""

import nibabel as nib
import numpy as np
import pytest
from small_brain import make_brain

from twinvae.imaging import read_volume


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_long_extension_is_skipped(tmp_path, suffix):
    brain = make_brain()
    image = nib.Nifti1Image(brain.image.astype(np.int16), brain.affine)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("afni", b"<x>" * 2000))
    nib.save(image, tmp_path / f"scan{suffix}")
    volume = read_volume(tmp_path / f"scan{suffix}")
    np.testing.assert_array_equal(volume.data, brain.image)
    np.testing.assert_allclose(volume.affine, brain.affine)
