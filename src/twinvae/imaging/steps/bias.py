"""Divide by the smooth field that N4 finds inside the brain.

N4: Tustison et al., IEEE Trans Med Imaging 29 (2010) 1310; SimpleITK's filter. The field is fitted
on averages over large cells, and over the brain's bounding box, so that neither the voxels'
noise nor the width of the margin matters.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from twinvae.config import BiasCorrection
from twinvae.errors import DataError
from twinvae.imaging.resample import CoarseGrid, from_itk, one_thread, to_itk
from twinvae.imaging.scan import LogGain, Working
from twinvae.imaging.steps.base import Fitted, apply_step
from twinvae.imaging.volume import Bools, Floats


@apply_step.register
def bias_correction(options: BiasCorrection, scan: Working, fitted: Fitted) -> Working:
    """Divide the image by the field; the brain stays as it is."""
    del fitted
    grid = CoarseGrid.around(scan.brain, scan.spacing_mm, options.grid_mm)
    coarse, inside = grid.averages(scan.image, scan.brain)
    if not inside.any():
        raise DataError(
            f"{scan.files.image}: expected a brain of many cells of {options.grid_mm:g} mm for "
            f"bias_correction (grid_mm), found {np.count_nonzero(scan.brain)} voxels"
        )
    positive = inside & (coarse > 0)
    if 2 * np.count_nonzero(positive) <= np.count_nonzero(inside):
        raise DataError(
            f"{scan.files.image}: expected positive intensities inside the brain for "
            f"bias_correction, found a mean of {scan.image[scan.brain].mean():g}"
        )
    try:
        log = _log_field(coarse, positive, grid.sides_mm, options)
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise DataError(f"{scan.files.image}: N4 found no field ({said[-120:]})") from None
    gain = LogGain(log, grid)
    image = scan.image / gain.on_grid()
    return replace(scan, image=np.where(scan.brain, image, np.float32(0)), gain=gain)


def _log_field(
    coarse: Floats, inside: Bools, sides: tuple[float, float, float], options: BiasCorrection
) -> Floats:
    """The field's logarithm at the centres of the cells."""
    with one_thread() as sitk:
        image = to_itk(coarse, sides)
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        n4.SetMaximumNumberOfIterations(options.iterations)
        n4.SetConvergenceThreshold(options.tolerance)
        n4.Execute(image, to_itk(inside.astype(np.uint8), sides))
        return from_itk(n4.GetLogBiasFieldAsImage(image))
