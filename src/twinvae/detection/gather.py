"""What is meant by the arguments of ``detect``: files, folders and tables become single scans.

Only names, tables and DICOM headers are looked at; no voxel is read, and nothing is written.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from twinvae.cohort.layouts import LAYOUTS, recognised
from twinvae.cohort.layouts.csv_table import SUFFIXES, index_table
from twinvae.cohort.layouts.dicom_studies import Study, studies
from twinvae.cohort.layouts.naming import all_files
from twinvae.cohort.manifest import validate_manifest
from twinvae.cohort.patients import contrast_file, file_of
from twinvae.config.contrast import standard_contrast
from twinvae.detection.privacy import Cover
from twinvae.errors import ConfigError, DataError, some_of
from twinvae.files import file_and_volume
from twinvae.outputs import kind_of

_IMAGES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
_OURS = ("detections", "results of a scan", "maps")
_NAMED = 5  # studies whose choice of series is said


@dataclass(frozen=True)
class Gathered:
    """One scan that is meant, and all that is known of it before it is read."""

    given: str
    """The argument it comes from."""
    image: Path
    contrast: str = ""
    """By its common name; empty where nothing tells."""
    name: str = ""
    """What its results are to be called, or its patient is; empty: as its file."""
    subject: str = ""
    session: str = ""
    source: str = ""
    detail: str = ""
    """Tells repeated scans of one contrast and session apart (`run-2`)."""
    dataset: Path | None = None
    """The BIDS data set that it lies in."""
    brain_mask: Path | None = None
    trust_grid: bool = False
    series: str = ""
    """Number, description and shape of a DICOM series."""
    alone: bool = True
    """Whether it was given by itself, not by a folder or a table."""
    instead_of: tuple[Path, ...] = ()
    """Where contrasts are judged together: scans of the same that were left for this one."""

    @property
    def said(self) -> str:
        """The contrast as the user, a layout or a table says it; empty where its name may."""
        return "" if self.given == str(self.image) else self.contrast


@dataclass
class Wanted:
    """What is looked for, and what was seen on the way."""

    contrasts: Sequence[str]
    together: bool
    """Whether the contrasts of a patient are judged together."""
    participants: frozenset[str] = frozenset()
    sessions: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)
    """What was left out, and which series were chosen: sentences that name no patient."""
    seen: list[Gathered] = field(default_factory=list)
    """Everything that folders and tables hold."""

    def note(self, where: str, what: str, names: Iterable[str] = ()) -> None:
        """Remark on what was left out at ``where``."""
        listed = _some(names)
        self.notes.append(f"{where}: {what}" + (f": {listed}" if listed else ""))


def require_there(scans: Iterable[Path | str]) -> None:
    """Raise ``DataError`` naming the first of ``scans`` or masks that is not there."""
    for each in scans:
        if not file_and_volume(file_of(str(each)))[0].exists():
            raise DataError(f"{each}: no such file or folder")


def gather(scans: Sequence[Path | str], wanted: Wanted) -> list[Gathered]:
    """The scans that ``scans`` mean, in their order, each once.

    ``scans``: files, DICOM folders, ``CONTRAST=FILE`` or ``PATIENT:CONTRAST=FILE``, which are
    taken as they are; folders in a layout that twinvae knows, plain folders of scans, tables, and
    folders of DICOM studies, of which those of the wanted contrasts are taken, with the brain
    masks that are known there.

    Raises ``DataError`` when something is not there, a folder or table holds no wanted scan (then
    it says what it holds), or a participant or session that was asked for is nowhere; and
    ``ConfigError`` when a layout cannot be told.
    """
    require_there(scans)
    found: dict[str, Gathered] = {}
    for number, each in enumerate(scans):
        for one in _meant(str(each), wanted):
            place = str(one.image.absolute())
            found.setdefault(f"{number} {place}" if one.alone else place, one)
    alone = {str(one.image.absolute()) for one in found.values() if one.alone}
    _require_labels(wanted)
    if not found:
        raise _none(" ".join(map(str, scans)), wanted.seen, wanted)
    return [one for place, one in found.items() if one.alone or place not in alone]


def _meant(given: str, wanted: Wanted) -> list[Gathered]:
    path = file_of(given)
    file, volume = file_and_volume(path)
    if path != Path(given) or volume is not None:
        return [_as_given(given, path, wanted)]
    if file.is_file():
        if path.suffix.lower() in SUFFIXES:
            return _chosen(given, _of_table(given, path), wanted)
        return [_as_given(given, path, wanted)]
    layouts = recognised(path)
    if len(layouts) > 1:
        raise DataError(
            f"{given}: expected a folder of one layout, found what looks like "
            f"{' and '.join(layouts)}; give their folders one by one"
        )
    if layouts == ["dicom"]:
        return _of_dicom(given, path, wanted)
    find = LAYOUTS[layouts[0]].find if layouts else None
    if find is None:
        return _chosen(given, _of_names(given, path, wanted), wanted)
    return _chosen(
        given,
        [
            Gathered(
                given=given,
                image=Path(scan.image),
                contrast=standard_contrast(scan.contrast),
                subject=scan.subject,
                session=scan.session,
                detail=scan.detail,
                brain_mask=Path(scan.brain_mask) if scan.brain_mask else None,
                dataset=path if layouts[0] == "bids" else None,
                alone=False,
            )
            for scan in find(path)
        ],
        wanted,
    )


def _as_given(given: str, path: Path, wanted: Wanted) -> Gathered:
    """A scan by itself; where contrasts are judged together its name must tell which it is."""
    if not wanted.together and path == Path(given):
        return Gathered(given, path)
    told = contrast_file(given)
    if not wanted.together and told.contrast not in wanted.contrasts:
        raise ConfigError(
            f"{given}: expected contrast {' or '.join(wanted.contrasts)}, found {told.contrast}"
        )
    return Gathered(given, told.path, told.contrast, told.patient if wanted.together else "")


def _of_table(given: str, path: Path) -> list[Gathered]:
    """The rows of a manifest or of a hand-written table."""
    table = index_table(path, "mixed", path.stem, "")
    validate_manifest(table, given, check_files=True)
    return [
        Gathered(
            given=given,
            image=Path(row["image"]),
            contrast=standard_contrast(row.get("contrast", "")) or _told(Path(row["image"])),
            subject=row["subject"],
            session=row["session"],
            source=row["source"],
            brain_mask=Path(row["brain_mask"]) if row["brain_mask"] else None,
            trust_grid=row.get("trust_grid", "") == "yes",
            alone=False,
        )
        for row in table.to_dict("records")
    ]


def _of_names(given: str, path: Path, wanted: Wanted) -> list[Gathered]:
    """The images of a plain folder, which tell patient and contrast by their names.

    Where no name tells a contrast, all are taken for the bundle's. What twinvae wrote, what lies in
    ``derivatives`` and what is called a mask is no scan.
    """
    found, masks = [], []
    for file in all_files(path):
        inner = file.relative_to(path.absolute()).parts[:-1]
        if not file.name.lower().endswith(_IMAGES) or "derivatives" in inner:
            continue
        if any(kind_of(folder) in _OURS for folder in file.parents[: len(inner) + 1]):
            continue
        try:
            told = contrast_file(str(file))
            subject, session = _split(told.patient)
            found.append(
                Gathered(given, file, told.contrast, told.patient, subject, session, alone=False)
            )
        except ConfigError as error:
            if "named like a mask" in str(error):
                masks.append(file.name)
            else:
                found.append(Gathered(given, file, subject=file.name.split(".")[0], alone=False))
    if masks:
        wanted.note(given, f"left {len(masks)} named like masks (--brain-mask uses one)", masks)
    untold = [one for one in found if not one.contrast]
    if untold and len(untold) < len(found):
        names = [one.image.name for one in untold]
        wanted.note(given, f"left {len(untold)} whose names tell no contrast", names)
        return [one for one in found if one.contrast]
    return found


def _of_dicom(given: str, path: Path, wanted: Wanted) -> list[Gathered]:
    """The one series of a folder as it is; else those of the contrasts, one a study of each."""
    broken: list[str] = []
    found = studies(path, broken)
    members = [one for study in found for one in study.members]
    if len(members) < 2:
        return [_as_given(given, path, wanted)]
    covers = [Cover.of(one.series.files[0]) for one in members]
    cover = Cover(frozenset().union(*(one.words for one in covers)))
    if broken:
        wanted.note(cover.text(given), f"{len(broken)} unreadable", map(cover.text, broken))
    if len(found) <= _NAMED:
        for number, study in enumerate(found, start=1):
            _note_choice(cover, given, f"study {number} of {len(found)}", study, wanted)
    candidates = [
        Gathered(
            given=given,
            image=Path(image),
            contrast=contrast,
            subject=study.subject,
            session=study.session,
            series=cover.text(study.chosen[contrast].about),
            alone=False,
        )
        for study in found
        for contrast, image in study.images.items()
    ]
    return _chosen(given, candidates, wanted, cover)


def _note_choice(cover: Cover, given: str, which: str, study: Study, wanted: Wanted) -> None:
    for contrast in wanted.contrasts:
        wanted.note(cover.text(given), cover.text(f"{which}: {study.choice(contrast)}"))


def _chosen(
    given: str, candidates: Sequence[Gathered], wanted: Wanted, cover: Cover | None = None
) -> list[Gathered]:
    """Those of the wanted contrasts and labels, named; ``cover``: of DICOM patients."""
    where = cover.text(given) if cover else given
    wanted.seen += candidates
    fitting = [c for c in candidates if _is_wanted(c, wanted)]
    if wanted.together:
        named = _one_of_each(where, fitting, wanted)
    else:
        named = _named(fitting, by_file=cover is None)
    chosen = [one for one in named if _labelled(one, wanted)]
    if chosen:
        have = {(one.subject, one.session) for one in named}
        lacking = {(c.subject, c.session) for c in candidates} - have
        if lacking and not _narrowed(wanted):
            what = f"skipped {len(lacking)} without {' or '.join(wanted.contrasts)}"
            wanted.note(where, what, () if cover else (" ".join(v).strip() for v in lacking))
        return chosen
    if _narrowed(wanted):  # another folder may have who is asked for
        wanted.note(where, "nothing of the participants or sessions asked for")
        return []
    raise _none(where, candidates, wanted)


def _none(where: str, candidates: Sequence[Gathered], wanted: Wanted) -> DataError:
    """Nothing of the wanted contrasts is there; says what is."""
    counts = Counter(c.contrast or "untold contrast" for c in candidates if _labelled(c, wanted))
    found = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    asked = " of the participants and sessions asked for" if _narrowed(wanted) else ""
    return DataError(
        f"{where}: expected scans of contrast {' or '.join(wanted.contrasts)}{asked}, found "
        + (found or "no scan")
    )


def _is_wanted(one: Gathered, wanted: Wanted) -> bool:
    return one.contrast in wanted.contrasts or not (one.contrast or wanted.together)


def _named(scans: Sequence[Gathered], *, by_file: bool) -> list[Gathered]:
    """Each with a name of its own: its file's where no two are alike, else by its entities."""
    stems = [file_and_volume(one.image)[0].name.split(".")[0].casefold() for one in scans]
    if by_file and len(set(stems)) == len(stems):
        return [replace(one, name="") for one in scans]
    several = len({one.source for one in scans}) > 1
    visits = [_visit(one, several) for one in scans]
    return [
        replace(one, name=visit if visits.count(visit) == 1 else f"{visit}_{one.detail}".strip("_"))
        for one, visit in zip(scans, visits, strict=True)
    ]


def _one_of_each(where: str, scans: Sequence[Gathered], wanted: Wanted) -> list[Gathered]:
    """The first scan of each contrast of each patient, a session being a patient of its own."""
    several = len({one.source for one in scans}) > 1
    first: dict[tuple[str, str], Gathered] = {}
    again = []
    for one in scans:
        patient = _visit(one, several)
        if (patient, one.contrast) in first:
            taken = first[patient, one.contrast]
            left = (*taken.instead_of, one.image)
            first[patient, one.contrast] = replace(taken, instead_of=left)
            again.append(" ".join(filter(None, (patient, one.contrast, one.detail))))
        else:
            first[patient, one.contrast] = replace(one, name=patient)
    if again:
        wanted.note(where, f"left {len(again)}, of which there is another of that contrast", again)
    return list(first.values())


def _visit(one: Gathered, several_sources: bool) -> str:
    """`sub-01_ses-02`, behind its source where there are several; or what the file's name tells."""
    if one.name:
        return one.name
    subject, session = _label(one.subject, "sub-"), _label(one.session, "ses-")
    parts = (_label(one.source, "") if several_sources else "", f"sub-{subject}")
    return "_".join(filter(None, (*parts, session and f"ses-{session}")))


def _split(patient: str) -> tuple[str, str]:
    """Subject and session of `sub-01_ses-02`; of another name, all of it."""
    match = re.fullmatch(r"sub-([^_]+)(?:_ses-([^_]+))?", patient)
    return (match[1], match[2] or "") if match else (patient, "")


def _label(text: str, prefix: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", text.removeprefix(prefix))


def _labelled(one: Gathered, wanted: Wanted) -> bool:
    """Whether its subject and session are among those asked for."""
    subject, session = one.subject.removeprefix("sub-"), one.session.removeprefix("ses-")
    return (not wanted.participants or subject in wanted.participants) and (
        not wanted.sessions or session in wanted.sessions
    )


def _narrowed(wanted: Wanted) -> bool:
    return bool(wanted.participants or wanted.sessions)


def _require_labels(wanted: Wanted) -> None:
    """Raise unless each participant and session that was asked for is somewhere."""
    if _narrowed(wanted) and not wanted.seen:
        raise ConfigError(
            "participant-label, session-label: expected a folder or table of scans beside them, "
            "found none"
        )
    subjects = {one.subject.removeprefix("sub-"): one for one in wanted.seen}
    sessions = {one.session.removeprefix("ses-"): one for one in wanted.seen if one.session}
    for option, asked, known in (
        ("participant-label", wanted.participants, subjects),
        ("session-label", wanted.sessions, sessions),
    ):
        for label in sorted(asked - set(known)):
            names = (Cover.of(scan.image).text(name) for name, scan in known.items())
            raise DataError(f"{option}: expected some of {_some(names) or 'none'}, found {label}")


def _told(image: Path) -> str:
    """The contrast that a file's name tells; empty where it tells none, or several."""
    try:
        return contrast_file(str(image)).contrast
    except ConfigError:
        return ""


def _some(names: Iterable[str]) -> str:
    return some_of(sorted(set(names)))
