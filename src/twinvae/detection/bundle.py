"""The bundle: a folder with everything detection needs and nothing else; copy it anywhere."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinvae import __version__
from twinvae.config import RunConfig, load_config
from twinvae.decision import Calibration
from twinvae.detection.seen import Seen
from twinvae.detection.shipped import COMPOSITE, bundle_path
from twinvae.errors import DataError
from twinvae.files import checksum, read_json, sealed, unsealed, write_json
from twinvae.imaging import FittedRecipe
from twinvae.scoring import Fitted, Models, read_fitted

FORMAT = 2
BUNDLE = "bundle.json"
"""In the folder of a bundle: what it is, and the checksum of each of its files."""


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory."""

    config: RunConfig
    recipe: FittedRecipe
    calibration: Calibration
    models: Models
    fitted: Fitted
    """What fitted scores learned from the run's healthy slices."""
    domain: dict[str, Any]
    """What healthy validation scans are like (``decision.domain``)."""
    about: dict[str, Any]
    """Content of bundle.json: format, version, who calibrated it anew on what, and ``files``, the
    checksum of every other file by its name."""
    seen: Seen
    """The scans that its models were trained on."""


def seal(folder: Path, about: Mapping[str, Any]) -> None:
    """Write bundle.json, the last file of a bundle: ``about`` it, and the checksum of each file."""
    facts = {
        **about, "format": FORMAT, "twinvae": __version__, "files": checksums(folder, but=BUNDLE)
    }  # fmt: skip
    write_json(folder / BUNDLE, sealed(facts))


def checksums(folder: Path, *, but: str) -> dict[str, str]:
    """Checksum of every file below ``folder`` by its name, except of those called ``but``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != but)
    return {str(path.relative_to(folder)): checksum(path) for path in files}


def require_files(folder: Path, sums: Mapping[str, str], teller: str) -> None:
    """Raise ``DataError`` unless every file is there with the checksum that ``teller`` names."""
    for name, wanted in sums.items():
        if not (folder / name).is_file():
            raise DataError(f"{folder / name}: no such file, though {teller} names it")
        if checksum(folder / name) != wanted:
            raise DataError(
                f"{folder / name}: expected the file as it was packed, found it edited or damaged"
            )


def copy_files(folder: Path, bundle: Bundle, out: Path) -> None:
    """Copy every file of ``bundle``, read from ``folder``, into ``out``, but for bundle.json."""
    for name in bundle.about["files"]:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, out / name)


def _about(folder: Path) -> dict[str, Any]:
    """Content of bundle.json, once all it says of the files is found true."""
    path = folder / BUNDLE
    if (folder / COMPOSITE).is_file():
        raise DataError(
            f"{folder}: expected a bundle of one contrast, found a composite one, which only "
            f"twinvae detect takes"
        )
    if not path.is_file():
        raise DataError(f"{folder}: expected a bundle (a folder with bundle.json), found none")
    found = read_json(path)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise DataError(
            f"{path}: expected format {FORMAT}, found "
            f"{found.get('format') if isinstance(found, dict) else found!r}; a lower one is an "
            f"older twinvae's: pack it anew (twinvae calibrate RUN --force); for a higher one "
            f"update twinvae"
        )
    about = unsealed(found)
    if about is None:
        raise DataError(f"{path}: expected the file as it was packed, found it edited or damaged")
    require_files(folder, about["files"], BUNDLE)
    return about


def bundle_contrast(folder: Path) -> str:
    """The contrast of a bundle's scans; raises as ``read_bundle`` does, but loads no weights."""
    _about(folder)
    return load_config(folder / "config.yaml").contrast


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle, from its folder or by the name of one that comes with the package.

    Raises ``DataError`` when ``folder`` is none, another version's, or not as it was packed.
    """
    folder = bundle_path(folder)
    about = _about(folder)
    return Bundle(
        config=load_config(folder / "config.yaml"),
        recipe=FittedRecipe.read(folder / "recipe.json"),
        calibration=Calibration(read_json(folder / "calibration.json")),
        models=Models.load(folder / "models"),
        fitted=read_fitted(folder / "fitted.safetensors"),
        domain=read_json(folder / "domain.json"),
        about=about,
        seen=Seen.read(folder),
    )
