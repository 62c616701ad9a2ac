"""The preprocessing recipe: an ordered list of steps, each a documented model."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from twinvae.config.base import Documented
from twinvae.vocabulary import Role


class Reorient(Documented):
    """Bring the volume to RAS+ (x to the right, y to the front, z up) by flips and axis swaps."""

    step: Literal["reorient"] = "reorient"


class BrainMask(Documented):
    """Find the brain; everything outside it becomes zero."""

    step: Literal["brain_mask"] = "brain_mask"
    method: Literal["auto", "given", "background", "hd_bet", "template"] = "auto"
    """`given`: the manifest's mask. `background`: the non-zero voxels of a skull-stripped scan.
    `auto`: the given mask where there is one, else the background. `hd_bet`: the network of
    Isensee et al. (2019) on the whole head; needs `pip install "twinvae[hdbet]"`. `template`: the
    MNI152 brain fitted to the whole head; needs nothing more, and is less exact: look at it."""
    networks: Literal[1, 5] = 1
    """How many of HD-BET's five networks vote; 5 also looks at mirror images, 40 times slower."""


class BiasCorrection(Documented):
    """Divide by a smooth field that N4 (Tustison et al. 2010) fits inside the brain.

    The more levels, the finer the field, and the more of a tumour's own contrast it takes for
    bias; see docs/recipe.md before using more than two.
    """

    step: Literal["bias_correction"] = "bias_correction"
    iterations: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(50, 50), min_length=1, max_length=6
    )
    """Most iterations at each level; each level halves the distance of the spline's knots."""
    grid_mm: float = Field(default=6.0, gt=0, le=20)
    """Side of the cells the scan is averaged to before the field is fitted (shrinking)."""
    tolerance: float = Field(default=1e-3, gt=0, lt=1)
    """A level ends when the field changes by less than this (coefficient of variation)."""


class Register(Documented):
    """Bring the scan onto the grid of a template (Mattes mutual information).

    Slices are then the template's; maps written back land on the scan's own grid. All three axes
    are interpolated, so scans of thick slices are refused.
    """

    step: Literal["register"] = "register"
    transform: Literal["rigid", "affine"] = "rigid"
    """`rigid`: turned and shifted; `affine`: also stretched and sheared."""
    template: Path | None = None
    """A brain without skull, any contrast; by default the MNI152 T1 that nilearn ships
    (ICBM 2009a, Fonov et al. 2011)."""
    voxel_mm: float = Field(default=1.0, ge=0.5, le=10)
    """Voxel size afterwards."""
    thickest_mm: float = Field(default=3.0, gt=0)
    """Scans with a larger distance between slices are refused."""


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
        _check_range(self.low, self.high)
        return self


class NyulScale(Documented):
    """Map landmarks of each scan's histogram to those of an average training scan.

    Nyúl and Udupa (1999), with the deciles of Nyúl, Udupa and Zhang (2000); the piecewise linear
    map goes on along its end pieces and is clipped to [0, 1].
    """

    step: Literal["nyul_scale"] = "nyul_scale"
    percentiles: tuple[float, ...] = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99.8)
    """The landmarks: percentiles inside the brain, rising."""
    level: float = Field(default=0.8, gt=0, le=1)
    """Value of the last landmark; the first is 0."""
    fit_on: Role | Literal["all"] = "healthy"
    """Which training scans are averaged."""
    scans: int = Field(default=40, ge=1)
    """At most this many of them, spread evenly over the list."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        found = self.percentiles
        rising = all(a < b for a, b in pairwise(found))
        if len(found) < 2 or not rising or found[0] < 0 or found[-1] > 100:
            raise ValueError(f"percentiles must rise within 0 and 100, found {list(found)}")
        return self


class HistogramMatch(Documented):
    """Give each scan the histogram of one training scan, scaled as by percentile_scale.

    The map is piecewise linear through equal percentiles inside the brain.
    """

    step: Literal["histogram_match"] = "histogram_match"
    low: float = Field(default=0.0, ge=0, lt=100)
    """Percentile of the reference that becomes 0."""
    high: float = Field(default=99.5, gt=0, le=100)
    """Percentile of the reference that becomes `level`."""
    level: float = Field(default=1.0, gt=0, le=1)
    """Value the high percentile is mapped to."""
    fit_on: Role | Literal["all"] = "healthy"
    """Whose training scans the reference is one of."""
    subject: str | None = None
    """The reference's subject; by default the first in alphabetical order."""
    points: int = Field(default=256, ge=2, le=4096)
    """Pieces of the map."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_range(self.low, self.high)
        return self


class ZScore(Documented):
    """Subtract the mean inside the brain, divide by the standard deviation, and squash.

    A value z becomes 1 / (1 + exp(−z / width)), which is (1 + tanh(z / (2 width))) / 2: the mean
    becomes 0.5, and nothing is clipped.
    """

    step: Literal["z_score"] = "z_score"
    width: float = Field(default=1.0, gt=0)
    """Larger keeps more room for outliers; at 1, z = 3 becomes 0.95."""


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


class AlignMirror(Documented):
    """Store, beside each slice, its mirror image: the same places of the brain's other half.

    The whole stack is reflected about its mid-sagittal plane, then moved smoothly onto itself
    (docs/recipe.md). Without this step a slice's mirror image is itself, flipped left to right.
    """

    step: Literal["align_mirror"] = "align_mirror"
    deform: bool = True
    """Move the reflected half onto the other; else it is reflected and no more."""
    control_mm: float = Field(default=20.0, ge=8, le=100)
    """Distance of the control points of that move."""
    limit_mm: float = Field(default=8.0, gt=0, le=30)
    """The farthest a control point goes along each axis."""


def _check_range(low: float, high: float) -> None:
    if low >= high:
        raise ValueError(f"low must be below high, found {low:g} and {high:g}")


RecipeStep = Annotated[
    Reorient
    | BrainMask
    | BiasCorrection
    | Register
    | ResampleInPlane
    | PercentileScale
    | NyulScale
    | HistogramMatch
    | ZScore
    | SelectSlices
    | CropResize
    | AlignMirror,
    Field(discriminator="step"),
]


def recipe_files(steps: Iterable[RecipeStep]) -> list[Path]:
    """Files that the steps themselves read."""
    registered = (step for step in steps if isinstance(step, Register))
    return [step.template for step in registered if step.template is not None]
