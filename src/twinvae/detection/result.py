"""What was found in a scan or a patient, in memory; written only where somebody says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from markupsafe import escape

from twinvae.decision import Calibration, ScanVerdict
from twinvae.detection.composite import Composite
from twinvae.detection.dicom_out import dicom_wanted
from twinvae.detection.look import Looked
from twinvae.detection.place import Place
from twinvae.detection.results import for_people, identity, say_warnings
from twinvae.detection.verdict import DISCLAIMER, Judgement
from twinvae.detection.write import map_on_scan, volumes_of, write_scan
from twinvae.detection.write_patient import PatientDetection, write_patient
from twinvae.files import file_and_volume
from twinvae.imaging import to_nibabel, unit_images
from twinvae.outputs import replaced
from twinvae.reporting.scan_page import SLICE_COLUMNS, thumbnail
from twinvae.reporting.text import data_uri


@dataclass(frozen=True, repr=False)
class Judged:
    """A verdict, and what it rests on."""

    name: str
    """What the scan or patient was called."""
    judgement: Judgement
    """Everything about the verdict."""
    warnings: tuple[str, ...]
    """Sentences that must stand beside it."""

    @property
    def verdict(self) -> str:
        """`abnormal`, `healthy`, or `none: out of domain`."""
        return self.judgement.word

    @property
    def abnormal(self) -> bool | None:
        """Whether ``value`` reaches ``threshold``; None without a verdict."""
        return None if self._said is None else self._said.abnormal

    @property
    def value(self) -> float | None:
        """The number that decides, larger = more abnormal; None without a verdict."""
        return None if self._said is None else self._said.value

    @property
    def threshold(self) -> float | None:
        """From which value on a scan is abnormal; None without a verdict."""
        return None if self._said is None else self._said.threshold

    @property
    def p_value(self) -> float | None:
        """Conformal, in (0, 1], of the value among healthy scans; None without a verdict."""
        return None if self._said is None else self._said.p_value

    @property
    def slices(self) -> pd.DataFrame:
        """One row a slice, as in slices.tsv: every score, d*, p-value, whether it is abnormal."""
        return for_people(self.judgement.slices)

    @property
    def _said(self) -> ScanVerdict | None:
        return self.judgement.verdict

    def __repr__(self) -> str:
        said = self._said
        why = "" if said is None else f", {said.value:.4g} of {said.threshold:.4g}"
        return f"<{self.name}: {self.verdict}{why}>"

    def _repr_html_(self) -> str:
        """The verdict, its warnings and the highest slice, for notebooks."""
        said, shown = self._said, "".join(f"<br>{escape(sentence)}" for sentence in self.warnings)
        why = "" if said is None else (
            f"<br>{said.value:.4g}, threshold {said.threshold:.4g}, p = {said.p_value:.2g}"
        )  # fmt: skip
        pictures = "".join(
            f'<figure style="display:inline-block;margin:4px"><img width="192" alt="highest slice" '
            f'src="{data_uri(picture, "png")}"><figcaption>{escape(of)}</figcaption></figure>'
            for of, picture in self._pictures().items()
        )
        return (
            f"<div><b>{escape(self.name)}: {escape(self.verdict)}</b>{why}{shown}<br>{pictures}"
            f"<br><small>{DISCLAIMER}</small></div>"
        )

    def _pictures(self) -> dict[str, bytes]:
        raise NotImplementedError


@dataclass(frozen=True, repr=False)
class Result(Judged):
    """What was found in one scan; images lie on the scan's own grid."""

    looked: Looked

    @classmethod
    def of(cls, looked: Looked) -> Result:
        """Of a scan that was looked at."""
        return cls(looked.name, looked.judgement, tuple(looked.warnings), looked)

    @property
    def lesions(self) -> pd.DataFrame:
        """Places that stand out, as in lesions.tsv: volume in ml, centre and peak in mm."""
        return self.looked.places.lesions.table

    @cached_property
    def map(self) -> nibabel.Nifti1Image:
        """The map behind the score in times its threshold: lesions are where it reaches 1."""
        return to_nibabel(map_on_scan(self.looked))

    @property
    def healthy(self) -> nibabel.Nifti1Image:
        """What the scan would look like, healthy, in its own units."""
        return self._images["healthy"]

    @property
    def maps(self) -> Mapping[str, nibabel.Nifti1Image]:
        """``residual`` (scan less healthy, as the models see them), and those asked for."""
        return {name: image for name, image in self._images.items() if name != "healthy"}

    @cached_property
    def _images(self) -> dict[str, nibabel.Nifti1Image]:
        return {name: to_nibabel(volume) for name, volume in volumes_of(self.looked).items()}

    def write(self, folder: Path | str, *, dicom: bool | None = None) -> Path:
        """Write what `twinvae detect` writes of a scan into ``folder``, as a whole.

        A scan that was read from a file must still be there. ``dicom``: as for ``detect_scans``.
        Raises ``OutputError`` when the folder holds anything but earlier results of this scan.
        """
        files = self.looked.prepared.files
        wanted, inputs = dicom_wanted(dicom, [files.image]), [file_and_volume(files.image)[0]]
        of = made_from(self.looked)
        with replaced(Path(folder), "results of a scan", of=of, inputs=inputs) as room:
            lacking = write_scan(room, self.looked, dicom=wanted)
        say_warnings(self.name, lacking)
        return Path(folder)

    def _pictures(self) -> dict[str, bytes]:
        table, looked = self.judgement.slices, self.looked
        score = table[looked.bundle.config.decision.score]
        images = unit_images(looked.prepared.images)
        slices = table.assign(score=score)[list(SLICE_COLUMNS)]
        at = int(table["slice"].iloc[int(np.argmax(score))])
        return {f"slice {at}": thumbnail(slices, images, looked.places.relative)}


@dataclass(frozen=True, repr=False)
class PatientResult(Judged):
    """What was found in the scans of one patient, judged together."""

    scans: Mapping[str, Result]
    """Contrast → what was found in it alone, with its own maps."""
    found: PatientDetection
    """Which contrasts decided, which were left out and why."""
    composite: Composite
    calibration: Calibration
    """With the thresholds that the verdict rests on."""

    @property
    def lesions(self) -> pd.DataFrame:
        """Those of all contrasts, which stands in the first column."""
        tables = {contrast: one.lesions for contrast, one in self.scans.items() if len(one.lesions)}
        if not tables:
            columns = next(iter(self.scans.values())).lesions.columns
            return pd.DataFrame(columns=["contrast", *columns])
        return pd.concat(tables, names=["contrast"]).reset_index("contrast").reset_index(drop=True)

    def write(self, folder: Path | str, *, dicom: bool | None = None) -> Path:
        """Write what `twinvae detect` writes of a patient into ``folder``; see ``Result.write``."""
        folder, looked = Path(folder), {c: one.looked for c, one in self.scans.items()}
        images = [each.prepared.files.image for each in looked.values()]
        of = ", ".join(sorted(made_from(each) for each in looked.values()))
        how: dict[str, Any] = {"of": of, "inputs": [file_and_volume(path)[0] for path in images]}
        wanted, one = dicom_wanted(dicom, images), replace(self.found, folder=folder)
        with replaced(folder, "results of a scan", **how) as room:
            told = write_patient(
                room, one, self.composite, self.calibration, looked,
                Place(folder.parent, folder.name), dicom=wanted,
            )  # fmt: skip
        say_warnings(self.name, told)
        return folder

    def _pictures(self) -> dict[str, bytes]:
        return {
            f"{contrast}, {at}": picture
            for contrast, one in self.scans.items()
            for at, picture in one._pictures().items()
        }


def made_from(looked: Looked) -> str:
    """Which scan it is, in the marker of its results; of one in memory its content tells."""
    files = looked.prepared.files
    if files.voxels is None:
        return identity(files.image)
    return f"{files.image} {looked.prepared.facts['content']}"
