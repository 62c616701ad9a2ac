"""Plain BIDS (bids.neuroimaging.io).

The tree it expects::

    dataset/
      dataset_description.json                                optional here
      participants.tsv                                        optional; its column `split` is kept
      sub-01/[ses-1/]anat/sub-01[_ses-1][_run-1]_T2w.nii.gz   the scans; suffix = contrast, any case
      sub-01/[ses-1/]anat/sub-01[_ses-1]_ce-GADOLINIUM_T1w.nii.gz                contrast T1gd
      sub-01/[ses-1/]anat/sub-01[_ses-1]_desc-brain_mask.nii.gz
      derivatives/…/sub-01[_ses-1]_label-lesion_mask.nii.gz   masks here or beside the scan

Brain masks are `*_label-brain_mask` or `*_desc-brain_mask`; tumour masks have the label or desc
`lesion`, `tumour` or `tumor` and the suffix `mask`, `roi` or `dseg`. A mask belongs to a scan of
the same subject and session when no entity of its name (run, acq, …) disagrees with the scan's;
the one that agrees most wins, then one in the dataset before derivatives, then by path. Masks in
another space (`space-MNI…`) are left alone, and so
are those that twinvae found itself. Several runs of a session are all taken, as separate
scans of one subject; their session then reads `1_run-2`. Scans under `derivatives/` and
`sourcedata/` are not indexed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinvae.cohort.layouts.scans import Scan
from twinvae.cohort.manifest import read_strings
from twinvae.config.contrast import standard_contrast
from twinvae.outputs import MARKER, kind_of

_TUMOUR = frozenset({"lesion", "tumour", "tumor"})
_NATIVE = frozenset({"orig", "native", "individual", "scanner"})
_KIND = frozenset({"label", "desc", "space", "suffix"})
_MASKS = frozenset({"mask", "roi", "dseg", "probseg"})
_ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class _Name:
    """A BIDS file name taken apart: entities, and the suffix (`T2w`, `mask`)."""

    path: Path
    entities: dict[str, str]
    suffix: str

    @property
    def visit(self) -> tuple[str, str]:
        return self.entities["sub"], self.entities.get("ses", "")


def recognises(path: Path, files: Sequence[Path]) -> bool:
    """Whether ``path`` holds folders called `sub-…`."""
    del files
    return path.is_dir() and any(p.is_dir() for p in path.glob("sub-*"))


def find(path: Path) -> list[Scan]:
    """Every image in the dataset at ``path``, with its masks."""
    raw = _named(path, path.glob("sub-*/**/*.nii*"))
    masks: dict[tuple[str, str], list[_Name]] = {}
    ours = {
        marker.parent.absolute()
        for marker in (path / "derivatives").glob(f"**/{MARKER}")
        if kind_of(marker.parent) in ("detections", "BIDS derivatives")
    }
    for mask in [*raw, *_named(path, (path / "derivatives").glob("**/*.nii*"))]:
        if not ours.isdisjoint(mask.path.parents):
            continue
        if mask.suffix.lower() in _MASKS - {"probseg"}:
            masks.setdefault(mask.visit, []).append(mask)
    splits = _participant_splits(path)
    return [
        Scan(
            subject=name.entities["sub"],
            session=name.entities.get("ses", ""),
            detail=_detail(name),
            contrast=_contrast(name),
            image=str(name.path),
            brain_mask=_mask(name, masks, tumour=False),
            tumour_mask=_mask(name, masks, tumour=True),
            split=splits.get(name.entities["sub"], ""),
        )
        for name in raw
        if name.suffix.lower() not in _MASKS
    ]


def _named(root: Path, paths: Iterable[Path]) -> list[_Name]:
    """Those of ``paths`` that are BIDS names, nothing hidden and nothing in hidden folders.

    A writer that was killed leaves such a folder, with half a scan under its full name.
    """
    names = []
    below = len(root.absolute().parts)
    for path in sorted(p.absolute() for p in paths):  # not resolved: a link's own name counts
        ending = next((e for e in _ENDINGS if path.name.lower().endswith(e)), None)
        if ending is None or any(part.startswith(".") for part in path.parts[below:]):
            continue
        *pairs, suffix = path.name[: -len(ending)].split("_")
        entities = dict(pair.split("-", 1) for pair in pairs if "-" in pair)
        if "sub" in entities:
            names.append(_Name(path, entities, suffix))
    return names


def _detail(scan: _Name) -> str:
    return "_".join(f"{k}-{v}" for k, v in scan.entities.items() if k not in {"sub", "ses"})


def _contrast(scan: _Name) -> str:
    """The suffix, but T1gd for a T1w image with a contrast agent."""
    enhanced = "ce" in scan.entities and standard_contrast(scan.suffix) == "T1w"
    return "T1gd" if enhanced else scan.suffix


def _mask(scan: _Name, masks: dict[tuple[str, str], list[_Name]], *, tumour: bool) -> str:
    """Path of the scan's mask, or the empty string."""
    candidates = masks.get(scan.visit, [])
    fitting = [
        m for m in candidates if (_is_tumour(m) if tumour else _is_brain(m)) and _fits(m, scan)
    ]
    if not fitting:
        return ""
    best = min(fitting, key=lambda m: (-_agreement(m, scan), "derivatives" in m.path.parts, m.path))
    return str(best.path)


def _is_brain(mask: _Name) -> bool:
    kinds = {mask.entities.get("label", "").lower(), mask.entities.get("desc", "").lower()}
    return mask.suffix.lower() == "mask" and "brain" in kinds


def _is_tumour(mask: _Name) -> bool:
    kinds = {mask.entities.get("label", "").lower(), mask.entities.get("desc", "").lower()}
    return bool(kinds & _TUMOUR)


def _fits(mask: _Name, scan: _Name) -> bool:
    space = mask.entities.get("space", "").lower()
    if space and space not in _NATIVE and space != scan.suffix.lower():
        return False
    return all(scan.entities.get(k) == v for k, v in mask.entities.items() if k not in _KIND)


def _agreement(mask: _Name, scan: _Name) -> int:
    return sum(scan.entities.get(k) == v for k, v in mask.entities.items())


def _participant_splits(path: Path) -> dict[str, str]:
    """Splits that participants.tsv gives, by subject label."""
    file = path / "participants.tsv"
    if not file.is_file():
        return {}
    table = read_strings(file, "\t")
    if not {"participant_id", "split"} <= set(table.columns):
        return {}
    labels = table["participant_id"].str.removeprefix("sub-")
    return dict(zip(labels, table["split"], strict=True))
