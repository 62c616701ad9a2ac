"""What a NIfTI header says about orientation, twice, and whether it agrees with itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from twinvae.files import file_and_volume
from twinvae.imaging.nifti import nifti_header


def orientation_facts(path: Path, shape: tuple[int, ...]) -> dict[str, float]:
    """The codes of qform and sform and, when both are set, how far apart they put voxels.

    ``forms_apart_mm``: the largest distance at the volume's corners; ``forms_mirror``: 1 when one
    is the mirror image of the other. Empty for other formats, which say it once.
    """
    file, _ = file_and_volume(path)
    if not file.name.lower().endswith((".nii", ".nii.gz")):
        return {}
    header = nifti_header(file)
    facts = {name: float(header[name]) for name in ("qform_code", "sform_code")}
    if facts["qform_code"] > 0 and facts["sform_code"] > 0:
        q, s = header.get_qform(), header.get_sform()
        corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
        corners[:, :3] *= np.array(shape[:3]) - 1
        apart = np.linalg.norm((corners @ (q - s).T)[:, :3], axis=1).max()
        facts["forms_apart_mm"] = round(float(apart), 3)
        mirror = np.linalg.det(q[:3, :3]) * np.linalg.det(s[:3, :3]) < 0
        facts["forms_mirror"] = float(mirror)
    return facts
