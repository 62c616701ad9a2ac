"""Which scans a bundle's models have seen: known by checksums, so that a bundle names nobody.

``seen.json`` holds a group of scans for the run that made the bundle, and one for each that its
weights come from. A scan's ``content`` is ``imaging.volume.content_hash`` of its voxels as they are
read: SHA-256 (its first 64 bits) of the values and where they lie, the same for any file format,
compression, name or orientation. A person's ``subject`` is source and subject, hashed slowly with
the group's salt: nobody is named, but whoever guesses a name can see whether it is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from twinvae.files import read_json

SEEN = "seen.json"
_SPLITS = ("train", "val")
_ROUNDS = 10_000  # of the hash of a person; some milliseconds
_KEY = 32  # hexadecimal digits


@dataclass(frozen=True)
class Seen:
    """The training and validation scans behind a bundle."""

    groups: tuple[Mapping[str, Any], ...] = ()
    """Each with its ``salt`` and ``scans``: ``content``, ``subject``, ``role`` and ``split``."""
    unknown: tuple[str, ...] = ("it was packed before checksums of scans were kept",)
    """Why some are not known; empty when all are."""

    @classmethod
    def read(cls, folder: Path) -> Seen:
        """Of the bundle in ``folder``; one that says nothing of them is from an earlier version."""
        if not (folder / SEEN).is_file():
            return cls()
        found = read_json(folder / SEEN)
        return cls(tuple(found["groups"]), tuple(found["unknown"]))

    @classmethod
    def of_weights(cls, folder: Path) -> Seen:
        """Behind the model in ``folder``, a run's or a bundle's."""
        places = (folder.parent.parent / "bundle", folder.parent.parent)
        return cls.read(next((p for p in places if (p / SEEN).is_file()), folder))

    def to_json(self) -> dict[str, Any]:
        """What ``seen.json`` holds."""
        return {"groups": list(self.groups), "unknown": list(self.unknown)}

    def trained_on(self, content: str) -> bool:
        """Whether a model was trained on the scan with this ``content_hash``."""
        return content in self._contents

    def trained_on_subject(self, source: str, subject: str) -> bool:
        """Whether a model was trained on a person of this name in a source of this name."""
        return any(
            _key(group["salt"], source, subject) in {s["subject"] for s in _training(group)}
            for group in self.groups
        )

    def says(self) -> str:
        """One sentence for people."""
        scans = [scan for group in self.groups for scan in _training(group)]
        people = {(g["salt"], s["subject"]) for g in self.groups for s in _training(g)}
        known = f"{len(scans)} scans of {len(people)} subjects" if self.groups else ""
        lacking = f"unknown, for {' and '.join(self.unknown)}" if self.unknown else ""
        return f"Trained on: {'; others '.join(filter(None, (known, lacking)))}."

    @cached_property
    def _contents(self) -> frozenset[str]:
        return frozenset(s["content"] for group in self.groups for s in _training(group))


def seen_by(flags: pd.DataFrame, starts: Mapping[str, Path]) -> Seen:
    """What a run's models have seen: ``flags`` of its scans (``slices/qc.tsv``), and what was
    before.

    ``starts``: role → folder of the model whose weights that role's training began with.
    """
    groups: list[Mapping[str, Any]] = [_group(flags)]
    lacking: list[str] = []
    for role, folder in starts.items():
        before = Seen.of_weights(folder)
        groups += [one for one in before.groups if one not in groups]
        if before.unknown:
            lacking.append(role)
    models = f"the {' and the '.join(lacking)} model began with weights whose scans are"
    return Seen(tuple(groups), (f"{models} not all known",) if lacking else ())


def _group(flags: pd.DataFrame) -> dict[str, Any]:
    rows = flags[flags["split"].isin(_SPLITS) & (flags["content"] != "")]
    rows = rows.sort_values(["content", "split"])
    salt = hashlib.sha256(" ".join(rows["content"]).encode()).hexdigest()[:_KEY]
    people = {
        (source, subject): _key(salt, source, subject)
        for source, subject in zip(rows["source"], rows["subject"], strict=True)
    }
    keys = [people[person] for person in zip(rows["source"], rows["subject"], strict=True)]
    told = rows.assign(subject=keys)[["content", "subject", "role", "split"]]
    return {"salt": salt, "scans": told.to_dict("records")}


def _training(group: Mapping[str, Any]) -> Sequence[Mapping[str, str]]:
    return [scan for scan in group["scans"] if scan["split"] == "train"]


def _key(salt: str, source: str, subject: str) -> str:
    name = f"{source}/{subject}".encode()
    return hashlib.pbkdf2_hmac("sha256", name, salt.encode(), _ROUNDS).hex()[:_KEY]
