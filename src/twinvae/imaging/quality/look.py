"""One scan's numbers for quality control, noted while it goes through the recipe."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from twinvae.imaging.place import brighter_turn
from twinvae.imaging.quality.content import content_hash
from twinvae.imaging.quality.header import orientation_facts
from twinvae.imaging.scan import Working

Facts = dict[str, float | str]


@dataclass
class Look:
    """Sees a scan as it was read and once its brain is known; remembers only ``facts``."""

    facts: Facts = field(default_factory=dict)

    def as_read(self, scan: Working) -> None:
        """Voxels in the file's own axes, before any step."""
        image = scan.image
        top = float(image.max())
        at_top = int(np.count_nonzero(image == image.max()))
        self.facts |= {
            "content": content_hash(image),
            "top_value": top,
            "top_voxels": float(at_top),
            "top_share": _rounded(at_top / max(1, int(np.count_nonzero(image)))),
            "handedness": float(np.sign(np.linalg.det(scan.own_affine[:3, :3]))),
        }
        self.facts |= orientation_facts(scan.files.image, scan.own_shape)
        if scan.tumour is not None:
            background = np.count_nonzero(image[scan.tumour] == 0)
            self.facts["tumour_voxels"] = float(np.count_nonzero(scan.tumour))
            self.facts["tumour_in_background"] = float(background)

    def with_brain(self, scan: Working) -> None:
        """The same scan after the step brain_mask."""
        x, y, z = scan.counted_spacing_mm
        self.facts |= {
            "spacing_x_mm": x,
            "spacing_y_mm": y,
            "spacing_z_mm": z,
            "brain_ml": _rounded(float(scan.brain_px.sum()) * x * y * z / 1000),
            "area_cm2": _rounded(float(scan.brain_px.max()) * x * y / 100),
        }
        if scan.tumour is not None:
            outside = np.count_nonzero(scan.tumour) - np.count_nonzero(scan.tumour & scan.brain)
            self.facts["tumour_outside_brain"] = float(outside)
            self.facts["tumour_turn"] = brighter_turn(scan.tumour, scan.brain, scan.image)


def _rounded(value: float) -> float:
    """Six significant digits."""
    return float(f"{value:.6g}")
