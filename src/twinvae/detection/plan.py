"""What a call of ``detect`` would do: which scans, by which bundle, into which folders.

Making a plan loads no weights, reads no voxels and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twinvae.cohort import standard_contrast
from twinvae.cohort.patients import ContrastFile, file_of, patients_of
from twinvae.detection.bundle import BUNDLE, bundle_contrast
from twinvae.detection.composite import read_composite
from twinvae.detection.dicom_out import dicom_wanted
from twinvae.detection.gather import Gathered, Wanted, gather, require_there
from twinvae.detection.kept import fingerprint, may_be_kept
from twinvae.detection.options import DetectOptions
from twinvae.detection.place import Place
from twinvae.detection.privacy import Cover, called, is_dicom_scan, names_of
from twinvae.detection.results import RESERVED, check_results
from twinvae.detection.shipped import COMPOSITE, bundle_path
from twinvae.detection.where import dataset_of, place_of
from twinvae.errors import ConfigError
from twinvae.files import checksum, digest, file_and_volume
from twinvae.imaging import ScanFiles, hd_bet_installed

Scans = Sequence[Path | str]


@dataclass(frozen=True)
class Task:
    """The scans that get one verdict, and the place that it goes to."""

    place: Place
    scans: Mapping[str, Gathered]
    """Contrast → scan; one, unless contrasts are judged together."""
    made_by: Mapping[str, Any]
    """Bundle and options that matter, ready for JSON."""
    key: str
    """Fingerprint of all that the results rest on."""
    kept: bool
    """Whether an earlier call left these very results."""

    @property
    def name(self) -> str:
        """What the results are called."""
        return self.place.name

    @property
    def left(self) -> tuple[str, ...]:
        """A sentence for each scan that was left, since there is another of its contrast."""
        return tuple(
            f"{contrast}: {called(image)} was left out, since only one scan of a contrast is "
            f"judged, here {called(scan.image)}."
            for contrast, scan in self.scans.items()
            for image in scan.instead_of
        )

    def files(self, contrast: str) -> ScanFiles:
        """One of the scans, as it is prepared."""
        return _files(self.name, self.scans[contrast])


@dataclass(frozen=True)
class Plan:
    """What one call does."""

    bundle: Path
    """The bundle's folder."""
    contrasts: tuple[str, ...]
    """Those of the bundle."""
    tasks: tuple[Task, ...]
    out: Path
    options: DetectOptions
    dicom: bool
    """Whether DICOM objects are written of DICOM series."""
    inputs: tuple[Path, ...]
    """What ``out`` must not lie in."""
    notes: tuple[str, ...]
    """What folders and tables hold that is not judged, and which DICOM series were chosen."""
    dataset: Path | None = None
    """The BIDS data set whose derivatives are written; None in plain folders."""

    @property
    def scans(self) -> int:
        """How many scans there are."""
        return sum(len(task.scans) for task in self.tasks)

    @property
    def places(self) -> dict[str, Place]:
        """Name of each result → where it lies."""
        return {task.name: task.place for task in self.tasks}

    def check(self) -> None:
        """Raise ``OutputError`` when the results cannot be written where they are to be."""
        check_results(self.out, list(self.places.values()), self.inputs, self.dataset)

    def rows(self) -> list[dict[str, str]]:
        """One row a scan: what is read, and where it goes; names no DICOM patient."""
        return [
            {
                "result": task.name,
                "subject": Cover.of(scan.image).text(scan.subject),
                "session": Cover.of(scan.image).text(scan.session),
                "contrast": contrast,
                "mask": str(scan.brain_mask or _stripping(scan, self.options) or ""),
                "series": scan.series,
                "scan": called(scan.image),
                "bundle": self.bundle.name,
                "kept": "yes" if task.kept else "no",
            }
            for task in self.tasks
            for contrast, scan in task.scans.items()
        ]


def plan_detection(
    bundle: Path | str, scans: Scans | Path | str, out: Path | str, options: DetectOptions,
    *, together: bool,
) -> Plan:  # fmt: skip
    """What ``detect_scans``, or with ``together`` ``detect_patients``, would do.

    Raises as they do, but for what is wrong inside of scans; a file that is not there is told
    before anything else is looked at.
    """
    folder = bundle_path(bundle)
    scans = [scans] if isinstance(scans, Path | str) else list(scans)
    require_there([*scans, *options.brain_masks])
    contrasts = read_composite(folder).contrasts if together else [bundle_contrast(folder)]
    wanted = Wanted(
        [standard_contrast(one) for one in contrasts],
        together,
        frozenset(label.removeprefix("sub-") for label in options.participants),
        frozenset(label.removeprefix("ses-") for label in options.sessions),
    )
    found = _masked(gather(scans, wanted), options)
    named = _patients(found, contrasts) if together else _single(found, contrasts[0])
    dataset = dataset_of(found, options.layout)
    dicom = dicom_wanted(options.dicom, [scan.image for scan in found])
    made_by = {
        "bundle_sha256": checksum(folder / (COMPOSITE if together else BUNDLE)),
        "maps": sorted(options.maps),
    }
    out = Path(out)
    given = [file_and_volume(file_of(str(each)))[0] for each in scans]
    masks = [scan.brain_mask for scan in found if scan.brain_mask is not None]
    images = [file_and_volume(scan.image)[0] for scan in found]
    return Plan(
        bundle=folder,
        contrasts=tuple(contrasts),
        tasks=tuple(
            _task(place_of(out, name, of, dataset, together=together), of, made_by, options, dicom)
            for name, of in named.items()
        ),
        out=out,
        options=options,
        dicom=dicom,
        inputs=tuple(dict.fromkeys([folder, *given, *masks, *images])),
        notes=tuple(wanted.notes),
        dataset=dataset,
    )


def scan_names(scans: Sequence[Path], wanted: Sequence[str] = ()) -> list[str]:
    """A folder name for each scan that names no patient and none of our own files."""
    return names_of(scans, [Cover.of(scan) for scan in scans], RESERVED, wanted)


def _masked(found: list[Gathered], options: DetectOptions) -> list[Gathered]:
    """With the masks that were given one by one, and grids trusted where that was asked for."""
    masks = [Path(mask) for mask in options.brain_masks]
    if masks:
        listed = next((one for one in found if not one.alone), None)
        if listed is not None:
            raise ConfigError(
                f"brain-mask: expected scans given one by one beside it, found {listed.given}, "
                f"whose masks are those that its layout or its table names"
            )
        if len(masks) != len(found):
            raise ConfigError(
                f"brain-mask: expected one for each of the {len(found)} scans, found {len(masks)}"
            )
        found = [replace(one, brain_mask=m) for one, m in zip(found, masks, strict=True)]
    return [replace(one, trust_grid=one.trust_grid or options.trust_grid) for one in found]


def _single(found: Sequence[Gathered], contrast: str) -> dict[str, dict[str, Gathered]]:
    names = scan_names([one.image for one in found], [one.name for one in found])
    return {name: {contrast: one} for name, one in zip(names, found, strict=True)}


def _patients(
    found: Sequence[Gathered], contrasts: Sequence[str]
) -> dict[str, dict[str, Gathered]]:
    """Patient → contrast → scan, under names that none of their own DICOM headers holds."""
    told = [ContrastFile(one.name, one.contrast, one.image, one.given) for one in found]
    of = dict(zip(told, found, strict=True))
    named = {}
    for name, files in patients_of(told, contrasts).items():
        if name.casefold() in RESERVED:
            first = next(iter(files.values()))
            raise ConfigError(
                f"{first.given}: expected another name than {name} for a patient; give it as "
                f"P1:{first.contrast}={first.path}"
            )
        covers = [Cover.of(file.path) for file in files.values()]
        hidden = any(cover.hides(name) for cover in covers)
        series = sorted(cover.series for cover in covers)
        scans = {contrast: of[file] for contrast, file in files.items()}
        named[f"patient-{digest(series)[:8]}" if hidden else name] = scans
    return named


def _task(
    place: Place,
    scans: Mapping[str, Gathered],
    made_by: Mapping[str, Any],
    options: DetectOptions,
    dicom: bool,
) -> Task:
    own = {**made_by, "dicom": dicom and any(is_dicom_scan(one.image) for one in scans.values())}
    if place.dataset is not None:
        own["stems"] = dict(place.stems)
    if any(one.instead_of for one in scans.values()):
        own["left"] = [called(path) for one in scans.values() for path in one.instead_of]
    states = [(_files(place.name, scan), _stripping(scan, options)) for scan in scans.values()]
    key = fingerprint(own, states)
    return Task(
        place=place,
        scans=scans,
        made_by={**own, "force": options.force},
        key=key,
        kept=not options.again and may_be_kept(place, key, force=options.force),
    )


def _files(name: str, scan: Gathered) -> ScanFiles:
    return ScanFiles(
        name,
        scan.image,
        brain_mask=scan.brain_mask,
        trust_grid=scan.trust_grid,
        contrast=scan.said,
    )


def _stripping(scan: Gathered, options: DetectOptions) -> str | None:
    """How the brain of a head without a mask is found; None where that was not asked for."""
    if scan.brain_mask is not None or not options.skull_strip:
        return None
    if options.skull_strip is True:
        return "hd_bet" if hd_bet_installed() else "template"
    return options.skull_strip
