"""The composite bundle: one bundle a contrast, and how their scores are judged together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from twinvae import __version__
from twinvae.decision import Calibration
from twinvae.decision.fusion import FUSED, Scale, join_scan, set_name, with_fused
from twinvae.detection.bundle import BUNDLE, Bundle, checksums, read_bundle, require_files
from twinvae.detection.shipped import COMPOSITE, bundle_path, shipped_bundles
from twinvae.errors import DataError
from twinvae.files import checksum, read_json, sealed, unsealed, write_json

FORMAT = 1


@dataclass(frozen=True)
class Composite:
    """A composite bundle in memory, its members read when they are asked for."""

    folder: Path
    about: Mapping[str, Any]
    """Content of any.json: format, name, members (bundle and the checksum of its bundle.json),
    scale, calibrations, files."""
    scale: Scale
    calibrations: Mapping[str, Calibration]
    """Set of two or more contrasts, as ``T2w+FLAIR`` → thresholds of their fused score."""

    @property
    def name(self) -> str:
        """What it is called."""
        return str(self.about["name"])

    @property
    def contrasts(self) -> list[str]:
        """Those that it has members for, in its order."""
        return list(self.scale.single)

    def members(self, contrasts: Iterable[str]) -> dict[str, Bundle]:
        """The bundles of some contrasts; ``DataError`` when one is not what scales were set on."""
        return {contrast: self._member(contrast) for contrast in contrasts}

    def _member(self, contrast: str) -> Bundle:
        entry = self.about["members"][contrast]
        folder = member_path(self.folder, entry["bundle"])
        if checksum(folder / BUNDLE) != entry["sha256"]:
            raise DataError(
                f"{folder}: expected the bundle on which the scales of {self.folder} were set, "
                f"found another; fuse the runs anew and pack the composite bundle again "
                f"(docs/fusion.md)"
            )
        return read_bundle(folder)

    def fused(self, slices: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """One patient's slices with the score ``fused``, from those of two contrasts or more."""
        scales = {FUSED: self.scale}
        return with_fused(join_scan(slices, scales), scales)

    def calibration(self, contrasts: Iterable[str]) -> Calibration:
        """Thresholds of the fused score of two contrasts or more."""
        there = set(contrasts)
        return self.calibrations[set_name([c for c in self.contrasts if c in there])]


def read_composite(given: Path) -> Composite:
    """Read a composite bundle, from its folder or by the name of one that comes with the package.

    Raises ``DataError`` when it is none, another version's, or not as it was packed.
    """
    folder = bundle_path(given)
    path = folder / COMPOSITE
    found = read_json(path)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise DataError(f"{path}: expected a composite bundle of format {FORMAT}, found another")
    about = unsealed(found)
    if about is None:
        raise DataError(f"{path}: expected the file as it was packed, found it edited or damaged")
    require_files(folder, about["files"], COMPOSITE)
    calibrations = {name: Calibration(each) for name, each in about["calibrations"].items()}
    return Composite(folder, about, Scale.from_json(about["scale"]), calibrations)


def member_path(folder: Path, member: str) -> Path:
    """Folder of a member of the composite bundle ``folder``: in there, or in the package.

    Raises ``DataError`` when it is in neither; the folder where the command is called has no say.
    """
    shipped = shipped_bundles()
    place = shipped.get(member, folder / member)
    if not (place / BUNDLE).is_file():
        raise DataError(
            f"{folder}: expected its member {member} in there or among the bundles of the package "
            f"({', '.join(shipped) or 'none'}), found none"
        )
    return place


def seal_composite(
    folder: Path,
    name: str,
    members: Mapping[str, str],
    scale: Mapping[str, Any],
    calibrations: Mapping[str, Any],
) -> None:
    """Write any.json, the last file of a composite bundle.

    ``members``: contrast → folder of its bundle below ``folder``, or a name that comes with the
    package. ``scale`` and ``calibrations``: as plain values.
    """
    sums = {}
    for contrast, bundle in members.items():
        packed = checksum(member_path(folder, bundle) / BUNDLE)
        sums[contrast] = {"bundle": bundle, "sha256": packed}
    facts = {
        "format": FORMAT,
        "twinvae": __version__,
        "name": name,
        "members": sums,
        "scale": scale,
        "calibrations": calibrations,
        "files": checksums(folder, but=COMPOSITE),
    }
    write_json(folder / COMPOSITE, sealed(facts))
