"""Where results lie. What is written is known by its role: its path in a plain folder of results.

One table says where each role goes in either layout::

    folders   OUT/NAME/ROLE
    bids      OUT/sub-01/ses-1/anat/sub-01_ses-1_run-2_desc-healthy_T2w.nii.gz   and the like: _BIDS

Names in BIDS keep every entity of the scan's own name. The brain mask and the lesions name the scan
as their space (``space-T2w``), so those of two contrasts are told apart.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from twinvae.outputs import check_replaceable, check_spread, locked, own_files, replaced, spread

PAGE, THUMBNAIL, MADE_FROM = "report.html", "thumbnail.png", "made_from.json"
HOME = ".twinvae"
"""Folder of a BIDS derivative data set that holds what only twinvae reads."""
_ANAT = "{visit}/anat/{entities}_"
_BIDS = {
    "report": "{stem}",
    "thumbnail": "{subject}/figures/{entities}_desc-thumbnail_{suffix}",
    "brain_mask": _ANAT + "space-{suffix}_desc-brain_mask",
    "lesions": _ANAT + "space-{suffix}_desc-lesions_dseg",
    "made_from": HOME + "/{stem}/made_from",
}
"""Role without its ending → place; of others ``desc-ROLE_SUFFIX`` in ``anat``."""
_ALWAYS = (PAGE, THUMBNAIL, "verdict.json", "slices.tsv", "lesions.tsv", "healthy.nii.gz",
           "residual.nii.gz")  # fmt: skip
_TOGETHER = "fused"  # suffix of what is said of several contrasts
_WAIT_S = 600.0  # for other processes, which are at it for some seconds each


@dataclass(frozen=True)
class Place:
    """Where the results of one scan or patient lie."""

    out: Path
    name: str
    """What they are called."""
    of: str = ""
    """Whose results they are (``results.identity``)."""
    dataset: Path | None = None
    """The BIDS data set of the scans, whose derivatives these are; None in plain folders."""
    stems: Mapping[str, str] = field(default_factory=dict)
    """In BIDS: part of the results (a contrast, or empty) → its scan's name without suffixes."""
    images: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    """In BIDS: part → the files that it was made from, the scan first."""

    @property
    def folder(self) -> Path:
        """The folder that holds the verdict."""
        return self.path("verdict.json").parent

    @property
    def home(self) -> Path:
        """Where the marker of these results lies."""
        return self.path(MADE_FROM).parent

    def path(self, role: str) -> Path:
        """The file of a role, such as ``slices.tsv`` or ``T2w/slices.tsv``."""
        if self.dataset is None:
            return self.out / self.name / role
        part, _, file = role.rpartition("/")
        return Path(os.path.normpath(self.out / bids_path(self.stems.get(part, self.name), file)))

    def page_of(self, contrast: str) -> str:
        """The page of one contrast, from that of the patient."""
        page = self.path(f"{contrast}/{PAGE}")
        return Path(os.path.relpath(page, self.path(PAGE).parent)).as_posix()

    def own_files(self) -> list[Path]:
        """What an earlier call wrote there."""
        return own_files(self.home)

    @contextmanager
    def replaced(self) -> Iterator[Path]:
        """Yield an empty folder whose files, called by their roles, become the results.

        They do so while no other process writes in ``out``, so nobody sees some of them. Raises
        ``OutputError`` as ``check`` does, and ``StageError`` as ``alone`` does.
        """
        how: Any = {"of": self.of, "alone": partial(alone, self.out)}
        if self.dataset is None:
            with replaced(self.out / self.name, "results of a scan", **how) as room:
                yield room
            return
        self.home.parent.mkdir(parents=True, exist_ok=True)
        with spread(self.home, "results of a scan", self.path, **how) as room:
            yield room

    def check(self, inputs: Iterable[Path] = ()) -> None:
        """Raise ``OutputError`` when something else lies where the results are to be."""
        if self.dataset is None:
            check_replaceable(self.out / self.name, "results of a scan", of=self.of, inputs=inputs)
            return
        parts = [f"{part}/" if part else "" for part in self.stems]
        places = {self.path(part + role) for part in parts for role in _ALWAYS}
        check_spread(self.home, "results of a scan", places, of=self.of)


def bids_path(stem: str, role: str) -> Path:
    """Where the role of the scan ``stem`` lies in a derivative data set.

    >>> bids_path("sub-01_ses-1_run-2_T2w", "healthy.nii.gz").as_posix()
    'sub-01/ses-1/anat/sub-01_ses-1_run-2_desc-healthy_T2w.nii.gz'
    >>> bids_path("sub-01_T2w", "brain_mask.json").as_posix()
    'sub-01/anat/sub-01_space-T2w_desc-brain_mask.json'
    """
    entities, _, suffix = stem.rpartition("_")
    if "-" in suffix:  # of a patient: no scan's name, but subject and session
        entities, suffix = stem, _TOGETHER
    subject, *more = entities.split("_")
    visit = f"{subject}/{more[0]}" if more and more[0].startswith("ses-") else subject
    name, _, ending = role.partition(".")
    label = re.sub(r"[\W_]+(\w?)", lambda match: match[1].upper(), name)  # letters and digits only
    pattern = _BIDS.get(name, _ANAT + "desc-{label}_{suffix}")
    known = {"stem": stem, "entities": entities, "suffix": suffix, "label": label}
    return Path(f"{pattern.format(**known, subject=subject, visit=visit)}.{ending}")


def alone(out: Path) -> AbstractContextManager[None]:
    """Read or write results in ``out`` while no other process does; others are waited for.

    Never within itself. Raises ``StageError`` after ten minutes.
    """
    return locked(out, wait_s=_WAIT_S)
