"""Where each frame of a series lies and what its stored numbers mean.

Classic images say it once a file (PS3.3 C.7.6.2, image plane; C.11.1, modality LUT); enhanced ones
once a frame or once for all frames, in functional groups (PS3.3 C.7.6.16.2.1 pixel measures, .3
plane position, .4 plane orientation, .9 pixel value transformation).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinvae.dicom.headers import Series, value_of
from twinvae.errors import DataError

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """One slice: the file and frame that hold it, and its place in mm, axes LPS."""

    file: Path
    number: int
    """In its file, from 0."""
    rows: int
    columns: int
    position: Vector
    """(3,): the centre of the first pixel."""
    orientation: Vector
    """(2, 3): unit vectors along a row (towards higher columns) and along a column."""
    spacing: Vector
    """(2,): between columns, between rows."""
    slope: float
    intercept: float


def frames_of(series: Series) -> list[Frame]:
    """Every frame of every file; ``DataError`` when one does not say where it lies."""
    frames = []
    for file, header in zip(series.files, series.headers, strict=True):
        groups = value_of(header, "PerFrameFunctionalGroupsSequence", file)
        count = _whole(header, "NumberOfFrames", file) if header.get("NumberOfFrames") else 1
        if groups is None:
            if count != 1:
                raise DataError(
                    f"{file}: expected a place for each of its {count} frames "
                    f"(PerFrameFunctionalGroupsSequence), found none"
                )
            frames.append(_frame(file, 0, header, [header]))
            continue
        if len(groups) != count:
            raise DataError(f"{file}: expected {count} functional groups, found {len(groups)}")
        shared = list(value_of(header, "SharedFunctionalGroupsSequence", file) or [])
        frames += [
            _frame(file, number, header, [group, *shared]) for number, group in enumerate(groups)
        ]
    return frames


def _frame(file: Path, number: int, header: Any, places: list[Any]) -> Frame:
    """One frame from the datasets that describe it, the most specific first."""
    enhanced = places[0] is not header
    spacing = _numbers(places, "PixelMeasuresSequence", "PixelSpacing", 2, file, enhanced)
    position = _numbers(places, "PlanePositionSequence", "ImagePositionPatient", 3, file, enhanced)
    orientation = _numbers(
        places, "PlaneOrientationSequence", "ImageOrientationPatient", 6, file, enhanced
    )
    if value_of(header, "ModalityLUTSequence", file):
        raise DataError(f"{file}: expected RescaleSlope and RescaleIntercept, found a lookup table")
    lut = "PixelValueTransformationSequence"
    scale = [_find(places, lut, name, file, enhanced) for name in _RESCALE]
    if (scale[0] is None) != (scale[1] is None):
        raise DataError(f"{file}: expected both RescaleSlope and RescaleIntercept, found one")
    slope, intercept = (1.0, 0.0) if scale[0] is None else [_number(v, file) for v in scale]
    if slope == 0:
        raise DataError(f"{file}: expected a RescaleSlope other than 0, found 0")
    if spacing.min() < 1e-3:
        raise DataError(f"{file}: expected PixelSpacing above 0 mm, found {spacing.tolist()}")
    return Frame(
        file=file,
        number=number,
        rows=_whole(header, "Rows", file),
        columns=_whole(header, "Columns", file),
        position=position,
        orientation=_unit(orientation.reshape(2, 3), file),
        spacing=spacing[::-1],  # DICOM names the one between rows first
        slope=slope,
        intercept=intercept,
    )


_RESCALE = ("RescaleSlope", "RescaleIntercept")


def _find(places: list[Any], group: str, keyword: str, file: Path, enhanced: bool) -> Any:
    """The value in the first place that has it; of functional groups, inside ``group``."""
    for place in places:
        items = value_of(place, group, file) if enhanced else [place]
        for item in items or ():
            value = value_of(item, keyword, file)
            if value is not None:
                return value
    return None


def _numbers(
    places: list[Any], group: str, keyword: str, count: int, file: Path, enhanced: bool
) -> Vector:
    value = _find(places, group, keyword, file, enhanced)
    if value is None:
        raise DataError(f"{file}: expected {keyword}, found none")
    try:
        numbers = np.array([float(v) for v in value], np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{file}: expected {count} numbers in {keyword}, found {value}") from None
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise DataError(f"{file}: expected {count} numbers in {keyword}, found {value}")
    return numbers


def _number(value: Any, file: Path) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise DataError(f"{file}: expected numbers in RescaleSlope and -Intercept, found {value}")
    return number


def _whole(header: Any, keyword: str, file: Path) -> int:
    value = value_of(header, keyword, file)
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise DataError(f"{file}: expected {keyword} of at least 1, found {value}")
    return number


def _unit(axes: Vector, file: Path) -> Vector:
    lengths = np.linalg.norm(axes, axis=1)
    if abs(lengths - 1).max() > 1e-2 or abs(axes[0] @ axes[1]) > 1e-3:
        raise DataError(
            f"{file}: expected two perpendicular unit vectors in ImageOrientationPatient, "
            f"found {axes.tolist()}"
        )
    unit: Vector = axes / lengths[:, None]
    return unit
