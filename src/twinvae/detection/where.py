"""Which layout results have, and where in it those of each scan or patient lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from twinvae.detection.gather import Gathered
from twinvae.detection.options import Layout
from twinvae.detection.place import Place
from twinvae.detection.results import identity
from twinvae.errors import ConfigError, DataError

DESCRIPTION = "dataset_description.json"


def dataset_of(found: Sequence[Gathered], layout: Layout) -> Path | None:
    """The BIDS data set whose derivatives are to be written; None for plain folders.

    ``auto``: BIDS where all scans come from one BIDS data set, which its description says it is.
    Raises ``ConfigError`` when ``bids`` is asked for scans that are not of one such folder.
    """
    roots = {one.dataset for one in found}
    (root,) = roots if len(roots) == 1 else (None,)
    if layout == "bids" and root is None:
        raise ConfigError(
            "output-layout: expected scans of one BIDS data set, given as its folder, beside bids; "
            f"found {'several' if len(roots) > 1 else 'other inputs'}; folders takes them"
        )
    if root is None or layout == "folders":
        return None
    return root if layout == "bids" or (root / DESCRIPTION).is_file() else None


def place_of(
    out: Path, name: str, scans: Mapping[str, Gathered], dataset: Path | None, *, together: bool
) -> Place:
    """Where the results of ``scans``, contrast → scan, that get one verdict lie."""
    if dataset is None:
        return Place(out, name, ", ".join(sorted(identity(one.image) for one in scans.values())))
    # A data set may be moved, or mounted in a container, with its derivatives.
    root = dataset.absolute()
    of = ", ".join(sorted(one.image.relative_to(root).as_posix() for one in scans.values()))
    stems = {contrast: one.image.name.split(".")[0] for contrast, one in scans.items()}
    images = {
        contrast: (one.image, *([] if one.brain_mask is None else [one.brain_mask]))
        for contrast, one in scans.items()
    }
    if together:
        return Place(out, name, of, dataset, {"": name, **stems}, images)
    ((contrast, stem),) = stems.items()
    if stem != name:  # numbered, since there is another one
        raise DataError(f"{scans[contrast].image}: expected one file of the name {stem}")
    return Place(out, stem, of, dataset, {"": stem}, {"": images[contrast]})
