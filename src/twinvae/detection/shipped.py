"""Bundles that come with the package: found by name, so that nobody has to train first."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from twinvae.errors import DataError

CARD = "card.md"
"""A bundle's model card: what it was made of, how well it does, where it fails."""
CARD_SECTIONS = (
    "Intended use", "Training data", "Licence", "Figures", "Failure cases", "Domain",
)  # fmt: skip
COMPOSITE = "any.json"
"""In the folder of a composite bundle, which is made of one bundle a contrast."""


def shipped_bundles() -> dict[str, Path]:
    """Folder of each bundle of one contrast in the package, by name."""
    return _shipped("bundle.json")


def shipped_composites() -> dict[str, Path]:
    """Folder of each composite bundle in the package, by name."""
    return _shipped(COMPOSITE)


def _shipped(file: str) -> dict[str, Path]:
    folder = Path(str(files("twinvae"))) / "bundles"
    return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{file}"))}


def is_composite(given: Path | str) -> bool:
    """Whether ``bundle_path`` leads to a composite bundle."""
    return (bundle_path(given) / COMPOSITE).is_file()


def bundle_path(given: Path | str) -> Path:
    """The folder itself where there is one, else the bundle of that name in the package.

    Raises ``DataError`` when neither is there.
    """
    path = Path(given)
    if path.is_dir():
        return path
    shipped = {**shipped_composites(), **shipped_bundles()}
    if str(given) in shipped:
        return shipped[str(given)]
    raise DataError(
        f"{given}: no such folder, and no bundle of that name comes with the package; expected the "
        f"folder of a bundle or one of {', '.join(shipped) or 'none'}"
    )
