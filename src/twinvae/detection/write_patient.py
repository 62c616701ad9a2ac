"""What was found in one patient of several contrasts, and everything that is written about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twinvae import __version__
from twinvae.decision import Calibration, ScanVerdict
from twinvae.detection.composite import Composite
from twinvae.detection.look import Looked
from twinvae.detection.place import PAGE, THUMBNAIL, Place
from twinvae.detection.results import for_people
from twinvae.detection.verdict import (
    DISCLAIMER,
    Judgement,
    calibration_json,
    domain_warnings,
    facts_json,
)
from twinvae.detection.write import write_scan
from twinvae.files import write_json, write_table
from twinvae.imaging import unit_images
from twinvae.reporting.patient_page import (
    ContrastSlices,
    PatientMaterial,
    write_patient_page,
    write_patient_thumbnail,
)
from twinvae.reporting.scan_page import SLICE_COLUMNS


@dataclass(frozen=True)
class PatientDetection:
    """What was found in one patient, and where it was written."""

    name: str
    folder: Path
    scans: Mapping[str, str]
    """Contrast → the scan that was given."""
    contrasts: tuple[str, ...]
    """Those that were judged together."""
    score: str
    """Name of the score that decided: ``fused``, or the only contrast's own."""
    judgement: Judgement
    """On these contrasts together; without a verdict when none was in domain."""
    alone: Mapping[str, Judgement]
    """What each contrast that could be read says alone."""
    left_out: Mapping[str, str]
    """Contrast → why it has no part in the verdict."""
    warnings: tuple[str, ...]
    """Sentences that must stand beside the verdict."""

    @property
    def verdict(self) -> ScanVerdict | None:
        """The verdict; None when no contrast was in domain, unless forced."""
        return self.judgement.verdict

    def summary(self) -> dict[str, Any]:
        """The patient's row of summary.tsv."""
        verdict, abnormal = self.verdict, self.judgement.called
        return {
            "name": self.name,
            "scans": "; ".join(self.scans.values()),
            "verdict": self.judgement.word,
            "contrasts": " ".join(self.contrasts),
            "score": self.score,
            "statistic": verdict and verdict.statistic,
            "value": verdict and verdict.value,
            "threshold": verdict and verdict.threshold,
            "p_value": verdict and verdict.p_value,
            "abnormal_slices": None if abnormal is None else len(abnormal),
            "slices": len(self.judgement.slices),
            "alone": "; ".join(f"{contrast} {each.word}" for contrast, each in self.alone.items()),
            "left_out": "; ".join(f"{contrast} {why}" for contrast, why in self.left_out.items()),
            "domain": self.judgement.domain,
            "outside": "; ".join(str(one) for one in self.judgement.outside),
        }


def patient_warnings(
    judgement: Judgement, left_out: Mapping[str, str], looked: Mapping[str, Looked]
) -> tuple[str, ...]:
    """Which contrasts were left out, whether the verdict was forced, and what qualifies each."""
    left = [f"{contrast} was left out, {why}" for contrast, why in left_out.items()]
    if judgement.verdict is not None and judgement.outside:
        left.append("OUT OF DOMAIN: the verdict was forced.")
    for contrast, each in looked.items():
        said = [s for s in each.warnings if s not in domain_warnings(each.judgement)]
        left += [f"{contrast}: {sentence}" for sentence in said]
    return tuple(left)


def write_patient(
    room: Path,
    one: PatientDetection,
    composite: Composite,
    calibration: Calibration,
    looked: Mapping[str, Looked],
    place: Place,
    *,
    dicom: bool = False,
) -> list[str]:
    """Write a folder for each contrast, and the verdict, slices and page of all, into ``room``.

    ``calibration``: with the thresholds that the verdict on all rests on; ``place``: where all of
    it goes from there. With ``dicom`` each DICOM
    series gets DICOM objects, too; returns why some do not, if so.
    """
    lacking = []
    for contrast, each in looked.items():
        (room / contrast).mkdir()
        said = write_scan(room / contrast, each, dicom=dicom, bids=place.dataset is not None)
        lacking += [f"{contrast}: {sentence}" for sentence in said]
    write_table(room / "slices.tsv", for_people(one.judgement.slices))
    write_json(room / "verdict.json", _verdict_json(one, composite, calibration, looked))
    material = _material(one, composite, looked, place)
    write_patient_page(material, room / PAGE)
    write_patient_thumbnail(material, room / THUMBNAIL)
    return lacking


def _verdict_json(
    one: PatientDetection,
    composite: Composite,
    calibration: Calibration,
    looked: Mapping[str, Looked],
) -> dict[str, Any]:
    """Everything about the verdict, ready for JSON; null where none is given."""
    bundles = {contrast: each.bundle for contrast, each in looked.items()}
    return {
        "patient": one.name,
        "scans": dict(one.scans),
        "bundle": composite.name,
        "contrasts": list(one.contrasts),
        "left_out": dict(one.left_out),
        **facts_json(one.judgement, calibration, one.score),
        "alone": {
            contrast: facts_json(
                each, bundles[contrast].calibration, bundles[contrast].config.decision.score
            )
            for contrast, each in one.alone.items()
        },
        "calibration": calibration_json(calibration),
        "brain_mask": {contrast: bundle.recipe.strips for contrast, bundle in bundles.items()},
        "warnings": list(one.warnings),
        "note": DISCLAIMER,
    }


def _material(
    one: PatientDetection, composite: Composite, looked: Mapping[str, Looked], place: Place
) -> PatientMaterial:
    table = one.judgement.slices
    words = {contrast: each.word for contrast, each in one.alone.items()}
    return PatientMaterial(
        name=one.name,
        verdict=one.verdict,
        slices=table.assign(score=table[one.score])[list(SLICE_COLUMNS)],
        score=one.score,
        contrasts={
            contrast: ContrastSlices(
                position=each.judgement.slices["position"].to_numpy(np.float64),
                images=unit_images(each.prepared.images),
                relative=each.places.relative,
            )
            for contrast, each in looked.items()
        },
        words=words | {contrast: f"left out, {why}" for contrast, why in one.left_out.items()},
        made={**one.scans, "Bundle": composite.name, "twinvae": __version__},
        warnings=one.warnings,
        pages={contrast: place.page_of(contrast) for contrast in looked},
    )
