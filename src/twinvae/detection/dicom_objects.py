"""What detection found in a DICOM series, as DICOM: a segmentation, a report, pictures of slices.

Everything here belongs to the patient's study and carries what the study says of the patient; it is
marked RESEARCH in every way the standard has. UIDs are new random ones under highdicom's root:
judging a scan again makes new objects in new series, never other content under an old UID.

The objects: Segmentation (PS3.3 A.51), one segment a region; Comprehensive SR with the template
Measurement Report (PS3.16 TID 1500); Secondary Capture (PS3.3 A.8.1). Needs highdicom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from twinvae import __version__
from twinvae.dicom import Frame
from twinvae.dicom.headers import read_dataset
from twinvae.errors import DataError

MARK = "RESEARCH ONLY - NOT FOR CLINICAL USE"
_SCHEME = "99TWINVAE"
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
# What a study must say of its patient even if it is nothing (type 2, PS3.3 C.7.1.1 and C.7.2.1).
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
_ML = Code("ml", "UCUM", "milliliter")
_MR_OF_HEAD = Code("816077007", "SCT", "Magnetic resonance imaging of brain")
_OPTIONS: dict[str, Any] = {
    "manufacturer": "twinvae",
    "manufacturer_model_name": "twinvae",
    "software_versions": __version__,
    "content_qualification": "RESEARCH",
    "transfer_syntax_uid": ExplicitVRLittleEndian,
}


@dataclass(frozen=True)
class Regions:
    """Places that stand out, each with its number, from 1."""

    labels: NDArray[np.int32]
    """(X, Y, Z) on the scan's own grid: 0, or the number of the region."""
    places: tuple[str, ...]
    """Where each is, in words."""
    volumes_ml: tuple[float, ...]
    """Of each."""


@dataclass(frozen=True)
class Finding:
    """What the objects say besides regions."""

    bundle: str
    bundle_version: str
    """Tells bundles of one name apart."""
    score: str
    """Name of the score that decides."""
    verdict: str
    """In a few words."""
    statistic: str
    """What of the scan's slice scores is held against the threshold."""
    value: float | None
    """The statistic; None without a verdict."""
    threshold: float | None
    """From here on a scan is abnormal; None without a verdict."""
    how: tuple[str, ...]
    """Sentences on how regions were made, and what qualifies the verdict."""


@dataclass(frozen=True)
class Source:
    """The series that was judged: its frames in the order of the volume's Z, and its headers."""

    frames: Sequence[Frame]
    headers: dict[Path, Dataset]
    """Of each file, without pixels."""

    @classmethod
    def read(cls, frames: Sequence[Frame]) -> Source:
        """Read the headers; ``DataError`` where one lacks what objects that refer to it need."""
        headers = {f: read_dataset(f, stop_before_pixels=True) for f in {x.file: 0 for x in frames}}
        for file, header in headers.items():
            for keyword in _NEEDED:
                if not header.get(keyword):
                    raise DataError(f"{file}: expected {keyword}, found none")
            for keyword in _MAY_BE_EMPTY:
                if keyword not in header:
                    setattr(header, keyword, "")
        if len(headers) > 1 and any("NumberOfFrames" in one for one in headers.values()):
            raise DataError(f"{frames[0].file.parent}: expected one multi-frame file, found more")
        return cls(frames, headers)

    @property
    def first(self) -> Dataset:
        """The header that speaks for the series."""
        return self.headers[self.frames[0].file]

    @property
    def several(self) -> bool:
        """Whether one file holds all frames."""
        return "NumberOfFrames" in self.first

    @cached_property
    def images(self) -> list[Dataset]:
        """Headers in the order of Z; of a multi-frame file the only one."""
        return [self.first] if self.several else [self.headers[one.file] for one in self.frames]

    def in_file_order(self, volume: NDArray[Any]) -> NDArray[Any]:
        """A volume (X, Y, Z) as frames (n, rows, columns), in the order of ``images``."""
        stacked = np.ascontiguousarray(volume.transpose(2, 1, 0))
        if not self.several:
            return stacked
        frames = np.zeros_like(stacked)
        frames[[one.number for one in self.frames]] = stacked
        return frames

    def series_number(self, kind: int) -> int:
        """A number for a new series beside the source's: 701, 702, … for its seventh."""
        return 100 * (abs(int(self.first.get("SeriesNumber") or 0)) % 10**6) + kind


def segmentation(source: Source, regions: Regions, finding: Finding) -> hd.seg.Segmentation:
    """Every region, of which there must be one, as a segment on the source's own grid."""
    algorithm = hd.AlgorithmIdentificationSequence(
        name="twinvae",
        family=codes.DCM.ArtificialIntelligence,
        version=__version__,
        source="twinvae",
        parameters={"bundle": f"{finding.bundle} {finding.bundle_version}"[:64]},
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"Region {number}: {place}",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Lesion,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            tracking_uid=hd.UID(),
            tracking_id=f"twinvae region {number}",
            anatomic_regions=[codes.SCT.Brain],
        )
        for number, place in enumerate(regions.places, start=1)
    ]
    frames, measures = source.in_file_order(regions.labels), _pixel_measures(source)
    made = hd.seg.Segmentation(
        source_images=source.images,
        pixel_array=frames.astype(np.uint8 if len(segments) < 256 else np.uint16),
        segmentation_type="BINARY",
        segment_descriptions=segments,
        series_instance_uid=hd.UID(),
        series_number=source.series_number(1),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        device_serial_number=finding.bundle_version,
        pixel_measures=measures,
        content_label="RESEARCH_ONLY",
        content_description=MARK,
        series_description=f"twinvae regions, {MARK}",
        **_OPTIONS,
    )
    shared = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    shared.SliceThickness = measures[0].SliceThickness  # multi-frame sources may lack it
    return made


def report(
    source: Source, segments: hd.seg.Segmentation | None, regions: Regions, finding: Finding
) -> hd.sr.ComprehensiveSR:
    """The verdict on the scan, and the volume of each region; ``segments`` holds the regions."""
    algorithm = hd.sr.AlgorithmIdentification(
        name="twinvae",
        version=__version__,
        parameters=[_plain(one) for one in (MARK, *_facts(finding), *finding.how)],
    )
    groups: list[Any] = [_scan_group(source, finding, algorithm)]
    if segments is not None:
        groups += [
            _region_group(source, segments, number, volume, algorithm)
            for number, volume in enumerate(regions.volumes_ml, start=1)
        ]
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=hd.UID(),
        name="twinvae",
        manufacturer_name="twinvae",
        model_name=f"twinvae {__version__}",
        serial_number=finding.bundle_version,
    )
    observer = hd.sr.ObserverContext(codes.DCM.Device, device)
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_MR_OF_HEAD,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    return hd.sr.ComprehensiveSR(
        evidence=[*source.images, *([] if segments is None else [segments])],
        content=content[0],
        series_instance_uid=hd.UID(),
        series_number=source.series_number(2),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        is_complete=False,  # nobody has verified it
        series_description=f"twinvae report, {MARK}",
        device_serial_number=finding.bundle_version,
        coding_schemes=[CodingSchemeIdentificationItem(_SCHEME, name="twinvae, private codes")],
        **_OPTIONS,
    )


def captures(
    source: Source, pictures: dict[int, NDArray[np.uint8]], finding: Finding
) -> list[hd.sc.SCImage]:
    """Pictures, RGB (H, W, 3), of slices by their place in the volume's Z, as one series."""
    series = hd.UID()
    return [
        _capture(source, place, picture, series, number, finding)
        for number, (place, picture) in enumerate(pictures.items(), start=1)
    ]


def _capture(
    source: Source,
    place: int,
    picture: NDArray[np.uint8],
    series: str,
    number: int,
    finding: Finding,
) -> hd.sc.SCImage:
    frame = source.frames[place]
    image = hd.sc.SCImage.from_ref_dataset(
        source.headers[frame.file],
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=series,
        series_number=source.series_number(3),
        sop_instance_uid=hd.UID(),
        instance_number=number,
        patient_orientation=(_towards(frame.orientation[0]), _towards(frame.orientation[1])),
        series_description=f"twinvae key slices, {MARK}",
        device_serial_number=finding.bundle_version,
        **_OPTIONS,
    )
    image.BodyPartExamined = "BRAIN"
    image.ConversionType = "WSD"  # made by a computer, not digitised
    image.BurnedInAnnotation = "NO"  # DICOM means what names the patient
    image.ImageComments = MARK
    image.DerivationDescription = f"Slice with the map of {finding.score} laid over"
    image.SourceImageSequence = [_reference(source, place)]
    image.ReferencedSeriesSequence = [_referenced_series(source, place)]
    return image


def _reference(source: Source, place: int) -> Dataset:
    """An item that names the source image, and its frame."""
    frame = source.frames[place]
    header = source.headers[frame.file]
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if source.several:
        item.ReferencedFrameNumber = frame.number + 1
    code = codes.DCM.SourceImageForImageProcessingOperation
    item.PurposeOfReferenceCodeSequence = [hd.sr.CodedConcept.from_code(code)]
    return item


def _referenced_series(source: Source, place: int) -> Dataset:
    item, instance = Dataset(), Dataset()
    header = source.headers[source.frames[place].file]
    instance.ReferencedSOPClassUID = header.SOPClassUID
    instance.ReferencedSOPInstanceUID = header.SOPInstanceUID
    item.SeriesInstanceUID = header.SeriesInstanceUID
    item.ReferencedInstanceSequence = [instance]
    return item


def _scan_group(
    source: Source, finding: Finding, algorithm: hd.sr.AlgorithmIdentification
) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    numbers = {
        ("SCAN_SCORE", f"Scan score: {finding.statistic}"): finding.value,
        ("SCAN_THRESHOLD", "Score from which a scan is abnormal"): finding.threshold,
    }
    verdict = hd.sr.QualitativeEvaluation(
        name=Code("VERDICT", _SCHEME, "Verdict on the scan, research only"),
        value=Code(_code(finding.verdict), _SCHEME, _plain(finding.verdict)[:64]),
    )
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), "twinvae whole scan"),
        finding_sites=[hd.sr.FindingSite(codes.SCT.Brain)],
        algorithm_id=algorithm,
        measurements=[
            hd.sr.Measurement(
                name=Code(value, _SCHEME, meaning[:64]),
                value=_six_digits(number),
                unit=codes.UCUM.NoUnits,
            )
            for (value, meaning), number in numbers.items()
            if number is not None
        ],
        qualitative_evaluations=[verdict],
        source_images=[
            hd.sr.SourceImageForMeasurementGroup.from_source_image(one) for one in source.images
        ],
    )


def _region_group(
    source: Source,
    segments: hd.seg.Segmentation,
    number: int,
    volume_ml: float,
    algorithm: hd.sr.AlgorithmIdentification,
) -> hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    described = segments.get_segment_description(number)
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(described.tracking_uid, described.tracking_id),
        referenced_segment=hd.sr.ReferencedSegment(
            sop_class_uid=segments.SOPClassUID,
            sop_instance_uid=segments.SOPInstanceUID,
            segment_number=number,
            source_series=hd.sr.SourceSeriesForSegmentation(source.first.SeriesInstanceUID),
        ),
        finding_type=codes.SCT.Lesion,
        finding_sites=[hd.sr.FindingSite(codes.SCT.Brain)],
        algorithm_id=algorithm,
        measurements=[
            hd.sr.Measurement(
                name=codes.SCT.Volume,
                value=_six_digits(volume_ml),
                unit=_ML,
            )
        ],
    )


def _facts(finding: Finding) -> tuple[str, ...]:
    return (
        f"bundle: {finding.bundle}",
        f"bundle version: {finding.bundle_version}",
        f"score: {finding.score}",
    )


def _pixel_measures(source: Source) -> hd.PixelMeasuresSequence:
    """The source's own numbers; the distance of its slices where it gives no thickness."""
    frames = source.frames
    apart = float(np.linalg.norm(frames[-1].position - frames[0].position)) / (len(frames) - 1)
    columns, rows = (float(side) for side in frames[0].spacing)
    thick = source.first.get("SliceThickness")
    return hd.PixelMeasuresSequence(
        pixel_spacing=(rows, columns),
        slice_thickness=float(thick) if thick else apart,
        spacing_between_slices=apart,
    )


def _towards(axis: NDArray[np.float64]) -> str:
    """Where an axis of the picture points, as nearly as one letter of PatientOrientation says."""
    main = int(np.abs(axis).argmax())
    return ("LR", "PA", "HF")[main][int(axis[main] < 0)]


def _code(verdict: str) -> str:
    """A code of at most 16 characters."""
    return verdict.split(":", maxsplit=1)[0].upper().replace(" ", "_")[:16]


def _six_digits(number: float) -> float:
    return float(f"{number:.6g}")


def _plain(text: str) -> str:
    """In the letters that every character set has."""
    return text.replace("–", "-").replace("—", "-").encode("ascii", "replace").decode()
