"""The recipe: ordered steps with what they fitted, applied to one scan and kept with the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import TypeAdapter

from twinvae.config import BrainMask, CropResize, RecipeStep, dump_config
from twinvae.errors import DataError
from twinvae.files import read_json
from twinvae.imaging.anatomy import anatomy_statistics
from twinvae.imaging.order import check_order
from twinvae.imaging.place import check_brain_place, check_tumour_place
from twinvae.imaging.quality.look import Facts, Look
from twinvae.imaging.scan import (
    Knots,
    LogGain,
    Moved,
    Pictures,
    ScanFiles,
    Window,
    Working,
    load_scan,
)
from twinvae.imaging.steps import Fitted, apply_step
from twinvae.imaging.volume import Affine, Bools, axis_codes

INDEX_COLUMNS = (
    *("subject", "session", "source", "role", "split", "slice", "position"),
    *("brain_px", "tumour_px", "spacing_mm", "pixel_mm"),
)
FULL_SCALE = 65535
"""What intensity 1 is stored as."""

_STEP: TypeAdapter[RecipeStep] = TypeAdapter(RecipeStep)


@dataclass(frozen=True)
class FittedRecipe:
    """Steps, and for each what it fitted on the training scans: plain values, often none."""

    steps: tuple[RecipeStep, ...]
    fitted: tuple[Fitted, ...]

    @property
    def crop(self) -> CropResize:
        """The last step."""
        last = self.steps[-1]
        assert isinstance(last, CropResize)
        return last

    def to_json(self) -> dict[str, Any]:
        """As plain values for ``write_json``."""
        steps = [dump_config(step) for step in self.steps]
        return {"steps": steps, "fitted": [dict(values) for values in self.fitted]}

    @classmethod
    def from_json(cls, values: Any, where: str = "recipe") -> Self:
        """From what ``to_json`` gave; raises ``DataError`` naming ``where``."""
        try:
            steps = tuple(_STEP.validate_python(step) for step in values["steps"])
            fitted = tuple(dict(entry) for entry in values["fitted"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{where}: expected a stored recipe, found {error}") from None
        if len(steps) != len(fitted):
            raise DataError(f"{where}: expected {len(steps)} fitted entries, found {len(fitted)}")
        check_order(steps)
        return cls(steps, fitted)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a recipe.json."""
        return cls.from_json(read_json(path), str(path))


@dataclass(frozen=True)
class ScanGrid:
    """Where the kept slices lie on the scan's own grid; what ``back_to_scan`` needs.

    After the step register, ``spacing_mm``, ``brain``, ``kept`` and ``window`` are of the
    template's grid, and ``moved`` says where that lies.
    """

    shape: tuple[int, int, int]
    """Of the file's array."""
    affine: Affine
    """Of the file's array."""
    orientation: NDArray[np.float64]
    """How its axes became x, y, z (nibabel's orientation, (3, 2))."""
    spacing_mm: tuple[float, float, float]
    """Voxel size along x, y, z."""
    brain: Bools
    """(X, Y, Z) after reorientation, before any resampling."""
    kept: NDArray[np.int64]
    """Numbers along z of the slices, (n,)."""
    window: Window
    """The square they were cut from."""
    gain: LogGain | None = None
    """The bias field that was divided out."""
    moved: Moved | None = None
    """How the scan was brought onto a template's grid."""


@dataclass(frozen=True)
class PreparedScan:
    """A scan's slices as they are stored and as the networks get them.

    ``images``: uint16 (n, H, W), intensity times 65535. ``brain``, ``tumour``: uint8 (n, H, W),
    0 or 1. ``index``: one row a slice, columns ``INDEX_COLUMNS``. ``scale``: knots (scan units,
    unit interval) of the intensity map, empty when there was none. ``statistics``: what the scan
    was like, for out-of-domain checks.
    """

    files: ScanFiles
    images: NDArray[np.uint16]
    brain: NDArray[np.uint8]
    tumour: NDArray[np.uint8]
    index: pd.DataFrame
    grid: ScanGrid
    scale: Knots
    statistics: dict[str, float]
    facts: Facts = field(default_factory=dict)


def prepare_scan(scan: ScanFiles, recipe: FittedRecipe) -> PreparedScan:
    """Read one scan and apply the recipe; the same scan always gives the same slices.

    Raises ``DataError`` when the scan, its masks or what the recipe makes of them cannot be used.
    """
    look = Look()
    working = run_steps(scan, recipe.steps, recipe.fitted, look)
    pictures = working.pictures
    assert pictures is not None  # crop_resize is the last step
    images, index = _quantised(working, pictures), _index(working, pictures)
    return PreparedScan(
        files=scan,
        images=images,
        brain=pictures.brain,
        tumour=pictures.tumour,
        index=index,
        grid=ScanGrid(
            shape=working.own_shape,
            affine=working.own_affine,
            orientation=working.orientation,
            spacing_mm=working.counted_spacing_mm,
            brain=working.counted_brain,
            kept=working.kept,
            window=pictures.window,
            gain=working.gain,
            moved=working.moved,
        ),
        scale=working.scale,
        statistics=_statistics(working, images, pictures, index),
        facts=look.facts,
    )


def run_steps(
    scan: ScanFiles,
    steps: Sequence[RecipeStep],
    fitted: Sequence[Fitted],
    look: Look | None = None,
) -> Working:
    """Read one scan and apply ``steps``, the first ones of a recipe or all; ``look`` may watch."""
    methods = [step.method for step in steps if isinstance(step, BrainMask)]
    working = load_scan(scan, read_brain=bool({"auto", "given"}.intersection(methods)))
    if steps[:1] and steps[0].step != "reorient" and axis_codes(working.own_affine) != "RAS":
        raise DataError(
            f"{scan.image}: expected RAS+ axes, found {axis_codes(working.own_affine)}; "
            f"begin the recipe with reorient"
        )
    if look is not None:
        look.as_read(working)
    for options, values in zip(steps, fitted, strict=True):
        if isinstance(options, BrainMask):
            check_brain_place(working)
        working = apply_step(options, working, values)
        if isinstance(options, BrainMask):
            if look is not None:
                look.with_brain(working)
            check_tumour_place(working)
    return working


def unit_images(images: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Stored pictures as float32 in [0, 1]."""
    return images.astype(np.float32) / np.float32(FULL_SCALE)


def _quantised(working: Working, pictures: Pictures) -> NDArray[np.uint16]:
    if not working.scale and (working.image.min() < 0 or working.image.max() > 1):
        raise DataError(
            f"{working.files.image}: expected intensities in [0, 1], found "
            f"{working.image.min():g} to {working.image.max():g}; add percentile_scale"
        )
    stored: NDArray[np.uint16] = np.rint(pictures.image * np.float32(FULL_SCALE)).astype(np.uint16)
    return stored


def _index(working: Working, pictures: Pictures) -> pd.DataFrame:
    kept, files = working.kept, working.files
    low, high = np.flatnonzero(working.brain_px)[[0, -1]]
    if working.tumour_px is not None:
        tumour = pd.array(working.tumour_px[kept].tolist(), dtype="Int64")
    else:
        unknown = 0 if files.role == "healthy" else pd.NA
        tumour = pd.array([unknown] * len(kept), dtype="Int64")
    table = pd.DataFrame({"slice": kept, "brain_px": working.brain_px[kept], "tumour_px": tumour})
    table["position"] = np.round(np.clip((kept - low) / max(high - low, 1), 0, 1), 6)
    for name in ("subject", "session", "source", "role", "split"):
        table[name] = getattr(files, name)
    x, y, _ = working.counted_spacing_mm
    table["spacing_mm"] = round(float(np.sqrt(x * y)), 6)
    table["pixel_mm"] = round(pictures.window.pixel_mm, 6)
    return table[list(INDEX_COLUMNS)]


def _statistics(
    working: Working, images: NDArray[np.uint16], pictures: Pictures, index: pd.DataFrame
) -> dict[str, float]:
    """What a scan was like: voxels, brain volume, intensities, and ``anatomy_statistics``."""
    moved, brain = working.moved, pictures.brain
    x, y, z = working.counted_spacing_mm if moved is None else moved.spacing_mm
    voxels = working.brain_px.sum() if moved is None else np.count_nonzero(moved.brain)
    values: dict[str, float] = {
        "spacing_x_mm": x,
        "spacing_y_mm": y,
        "spacing_z_mm": z,
        "brain_ml": round(float(voxels) * x * y * z / 1000, 3),
        "slices": float(len(working.kept)),
        "pixel_mm": pictures.window.pixel_mm,
    }
    if working.scale:
        values["scan_low"], values["scan_high"] = working.scale[0][0], working.scale[-1][0]
    inside = images[brain > 0] if brain.any() else np.zeros(1, np.uint16)
    for percentile in (1, 10, 25, 50, 75, 90, 99):
        value = float(np.percentile(inside, percentile)) / FULL_SCALE
        values[f"p{percentile:02d}"] = round(value, 6)
    values["mean"] = round(float(inside.mean()) / FULL_SCALE, 6)
    own = working.counted_brain if moved is None else moved.brain
    position = index["position"].to_numpy(np.float64)
    anatomy = anatomy_statistics(own, images, brain, position)
    return values | {name: round(value, 6) for name, value in anatomy.items()}
