"""One series as a volume: frames in the order of their places, never of names or numbers.

Classic images say once a file where they lie and what their numbers mean (PS3.3 C.7.6.2, image
plane; C.11.1, modality LUT); enhanced ones once a frame or once for all frames, in functional
groups (PS3.3 C.7.6.16.2.1 pixel measures, .3 plane position, .4 plane orientation, .9 pixel value
transformation). The order is that of ImagePositionPatient along the normal of the slices; the
affine follows C.7.6.2.1.1, turned from LPS to RAS. Whatever is not one even stack of parallel
slices is refused, so that no slice is ever put where it was not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinvae.dicom.headers import Series, list_series, read_dataset, value_of
from twinvae.dicom.pixels import decode
from twinvae.errors import DataError, some_of

Vector = NDArray[np.float64]

MOST_VOXELS = 2**30
"""A volume that claims more is taken for damage."""

_TURN = 1e-3  # largest difference of direction cosines within a series
_GAP = 0.02  # how uneven gaps may be: this share of the spacing, and as many mm, for rounding
_NAMED = 8  # series that a message names


def read_series(path: Path, uid: str | None) -> tuple[NDArray[np.float32], Vector]:
    """Voxels, float32 (X, Y, Z), and affine (4, 4), RAS, of a series at or below ``path``.

    X runs along the rows of the slices, Y along their columns, Z along their normal. Without
    ``uid`` there must be one series only. Raises ``DataError``.
    """
    frames, where = _frames(path, uid)
    return _voxels(frames, where).transpose(2, 1, 0), _affine(frames)


def series_frames(path: Path, uid: str | None) -> list[Frame]:
    """The slices of ``read_series``, in the order of its Z: the file and frame that hold each."""
    return _frames(path, uid)[0]


def _frames(path: Path, uid: str | None) -> tuple[list[Frame], str]:
    """The frames of a series in order, and how messages call it."""
    series = _the_series(path, uid)
    where = f"{path}: {series.name}"
    return _stacked(series, where), where


@dataclass(frozen=True)
class Stack:
    """What a series is as a volume, by its headers alone."""

    plane: str
    """The plane its slices are nearest to: axial, coronal or sagittal."""
    slices: int
    spacing_mm: float
    """Between slices."""
    pixel_mm: float
    """The longer side of a pixel."""

    @property
    def about(self) -> str:
        """For people."""
        return f"{self.plane}, {self.slices} slices, {self.pixel_mm:.3g} × {self.spacing_mm:.3g} mm"


def measure(series: Series) -> Stack:
    """Check that a series is one even stack of slices; ``DataError`` when it is none."""
    frames = _stacked(series, series.name)
    first, last = frames[0], frames[-1]
    normal = _normal(first)
    height = float((last.position - first.position) @ normal)
    plane = ("sagittal", "coronal", "axial")[int(abs(normal).argmax())]
    return Stack(plane, len(frames), height / (len(frames) - 1), float(first.spacing.max()))


def _stacked(series: Series, where: str) -> list[Frame]:
    """The frames in order; ``DataError`` unless they are one even stack."""
    frames = _frames_of(series)
    _same_plane(frames, where)
    frames.sort(key=lambda frame: float(frame.position @ _normal(frame)))
    _even(_distances(frames), series, where)
    _no_tilt(frames, where)
    return frames


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


def _the_series(path: Path, uid: str | None) -> Series:
    found = list_series(path)
    if not found:
        raise DataError(f"{path}: expected a DICOM series, found no DICOM image")
    about = [
        f"{s.uid} ({s.text('SeriesDescription') or 'no description'}, {s.images} images)"
        for s in found
    ]
    listed = some_of(about, _NAMED, joint="; ")
    if uid is None and len(found) > 1:
        raise DataError(
            f"{path}: expected one series, found {len(found)}: {listed}; "
            f"say which, as {path.name}#{found[0].uid}"
        )
    chosen = [s for s in found if uid in (None, s.uid)]
    if not chosen:
        raise DataError(f"{path}: expected series {uid}, found {listed}")
    return chosen[0]


def _same_plane(frames: list[Frame], where: str) -> None:
    """Raise ``DataError`` unless all frames have one size, spacing and orientation."""
    first = frames[0]
    for frame in frames:
        size = (frame.columns, frame.rows)
        if size != (first.columns, first.rows):
            raise DataError(
                f"{where}: expected slices of one size, found {first.columns}×{first.rows} and "
                f"{frame.columns}×{frame.rows} ({frame.file.name})"
            )
        if abs(frame.orientation - first.orientation).max() > _TURN:
            raise DataError(
                f"{where}: expected slices of one orientation, found {_cosines(first)} and "
                f"{_cosines(frame)} ({frame.file.name})"
            )
        if abs(frame.spacing / first.spacing - 1).max() > _TURN:
            raise DataError(
                f"{where}: expected one PixelSpacing, found {_mm(first.spacing)} and "
                f"{_mm(frame.spacing)} ({frame.file.name})"
            )
    if len(frames) < 2:
        raise DataError(f"{where}: expected a stack of slices, found 1; give the folder of them")
    total = len(frames) * first.rows * first.columns
    if total > MOST_VOXELS:
        raise DataError(f"{where}: expected at most {MOST_VOXELS:,} voxels, found {total:,}")


def _normal(frame: Frame) -> Vector:
    normal: Vector = np.cross(frame.orientation[0], frame.orientation[1])
    return normal


def _distances(frames: list[Frame]) -> Vector:
    """Place of each frame along the normal, rising."""
    normal = _normal(frames[0])
    return np.array([frame.position @ normal for frame in frames])


def _even(distances: Vector, series: Series, where: str) -> None:
    """Raise ``DataError`` for slices at one place, missing ones, and uneven gaps."""
    gaps = np.diff(distances)
    spacing = float(np.median(gaps))
    same = int((gaps < 0.01).sum())
    if same:
        raise DataError(
            f"{where}: expected one slice at each place, found {same} of {len(distances)} where "
            f"another lies; a second echo, b-value or time is a series of its own for twinvae"
        )
    stated = _stated_spacing(series)
    times = spacing / stated if stated else 1.0
    if round(times) >= 2 and abs(times - round(times)) < 0.02 * times:
        raise DataError(
            f"{where}: expected slices every {stated:g} mm (SpacingBetweenSlices), found every "
            f"{spacing:.4g} mm: missing slices?"
        )
    apart = abs(gaps - spacing)
    if apart.max() <= _GAP + _GAP * spacing:
        return
    worst = int(apart.argmax())
    times = gaps[worst] / spacing
    kind = "missing slice" if round(times) >= 2 and abs(times - round(times)) < 0.1 else "uneven"
    raise DataError(
        f"{where}: expected slices every {spacing:.4g} mm, found {gaps[worst]:.4g} mm between "
        f"slices {worst} and {worst + 1} of {len(distances)}, counted along the normal: {kind}"
    )


def _stated_spacing(series: Series) -> float:
    """What a classic header says lies between slices; 0 when it does not."""
    try:
        return abs(float(series.headers[0].get("SpacingBetweenSlices") or 0))
    except (TypeError, ValueError):
        return 0.0


def _no_tilt(frames: list[Frame], where: str) -> None:
    """Raise ``DataError`` when the stack leans: slices shifted within their plane."""
    positions = np.array([frame.position for frame in frames])
    across = (positions - positions[0]) @ frames[0].orientation.T
    shift = np.linalg.norm(across, axis=1)
    if shift.max() > max(0.1, 0.1 * float(frames[0].spacing.min())):
        height = float((positions[-1] - positions[0]) @ _normal(frames[0]))
        angle = np.degrees(np.arctan2(shift[-1], height))
        raise DataError(
            f"{where}: expected slices stacked along their normal, found them shifted by up to "
            f"{shift.max():.3g} mm ({angle:.3g}°): gantry tilt or several stacks"
        )


def _affine(frames: list[Frame]) -> Vector:
    first, last = frames[0], frames[-1]
    affine = np.eye(4)
    affine[:3, :2] = (first.orientation * first.spacing[:, None]).T
    affine[:3, 2] = (last.position - first.position) / (len(frames) - 1)
    affine[:3, 3] = first.position
    turned: Vector = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return turned


def _voxels(frames: list[Frame], where: str) -> NDArray[np.float32]:
    """(n, rows, columns), each slice with its own slope and intercept."""
    places: dict[Path, list[int]] = {}
    for place, frame in enumerate(frames):
        places.setdefault(frame.file, []).append(place)
    voxels: NDArray[np.float32] | None = None
    shape = (len(frames), frames[0].rows, frames[0].columns)
    for file, here in places.items():
        stored = decode(read_dataset(file), file)
        if stored.shape[1:] != shape[1:] or len(stored) <= max(frames[p].number for p in here):
            raise DataError(f"{where}: expected {shape[1:]} pixels in {file}, found {stored.shape}")
        if voxels is None:  # only now: the first file did hold what it claims
            voxels = np.empty(shape, np.float32)
        for place in here:
            frame = frames[place]
            voxels[place] = stored[frame.number] * np.float64(frame.slope) + frame.intercept
    assert voxels is not None
    return voxels


def _cosines(frame: Frame) -> str:
    return "\\".join(f"{value:.4g}" for value in frame.orientation.ravel())


def _mm(spacing: Vector) -> str:
    return "×".join(f"{value:.5g}" for value in spacing) + " mm"


def _frames_of(series: Series) -> list[Frame]:
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
