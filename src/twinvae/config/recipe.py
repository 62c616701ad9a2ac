"""The preprocessing recipe: an ordered list of steps, each a documented model."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from twinvae.config.base import Documented
from twinvae.config.cohort import Role


class Reorient(Documented):
    """Bring the volume to RAS+ (x to the right, y to the front, z up) by flips and axis swaps."""

    step: Literal["reorient"] = "reorient"


class BrainMask(Documented):
    """Find the brain; everything outside it becomes zero."""

    step: Literal["brain_mask"] = "brain_mask"
    method: Literal["auto", "given", "background"] = "auto"
    """`given`: the manifest's mask. `background`: the non-zero voxels of a skull-stripped scan.
    `auto`: the given mask where there is one, else the background."""


class ResampleInPlane(Documented):
    """Resample each axial slice to square pixels; never mixes neighbouring slices."""

    step: Literal["resample_in_plane"] = "resample_in_plane"
    pixel_mm: float = Field(default=1.0, gt=0, le=10)
    """Side of a pixel afterwards, in mm."""


class PercentileScale(Documented):
    """Map intensity percentiles inside the brain to 0 and 1, and clip."""

    step: Literal["percentile_scale"] = "percentile_scale"
    low: float = Field(default=0.0, ge=0, lt=100)
    """Percentile that becomes 0."""
    high: float = Field(default=99.5, gt=0, le=100)
    """Percentile that becomes `level`."""
    level: float = Field(default=1.0, gt=0, le=1)
    """Value the high percentile is mapped to; below 1 leaves headroom for hyperintense tissue."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, found {self.low:g} and {self.high:g}")
        return self


class SelectSlices(Documented):
    """Keep the axial slices worth looking at.

    May stand twice, once for each role; a scan given to `detect` is treated as mixed.
    """

    step: Literal["select_slices"] = "select_slices"
    role: Role | None = None
    """Apply to scans of this role only; by default to all."""
    keep: Literal["brain", "middle", "all"] = "brain"
    """`brain`: slices with brain pixels that cover at least `min_area_mm2`.
    `middle`: the middle `count` slices of the scan. `all`: every slice."""
    min_area_mm2: float = Field(default=0.0, ge=0)
    """Smallest brain area of a kept slice, in mm², for `brain`."""
    count: int | None = Field(default=None, ge=1)
    """How many slices `middle` keeps; for `brain`, at most this many around the brain's middle."""

    @model_validator(mode="after")
    def _count_given(self) -> Self:
        if self.keep == "middle" and self.count is None:
            raise ValueError("keep: middle needs count")
        return self


class CropResize(Documented):
    """Crop a square field of view around the brain, then shrink it to the network's size.

    Tumour and brain pixels are counted on the scan's own in-plane grid, before any resize.
    """

    step: Literal["crop_resize"] = "crop_resize"
    field_of_view_mm: float = Field(default=200.0, gt=0)
    """Side of the square cut around the brain's centre, in mm (zero-padded if needed)."""
    size: int = Field(default=64, ge=16, le=512)
    """Side of the network's image, in pixels; shrinking averages areas (anti-aliasing)."""


RecipeStep = Annotated[
    Reorient | BrainMask | ResampleInPlane | PercentileScale | SelectSlices | CropResize,
    Field(discriminator="step"),
]
