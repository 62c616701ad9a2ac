"""A run's bundle: what detection needs of it, packed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from twinvae.cohort.manifest import read_strings
from twinvae.config import dump_config
from twinvae.decision.domain import RECIPE_STATISTICS, domain_of, scan_facts
from twinvae.detection.bundle import copy_files, read_bundle, seal
from twinvae.detection.shipped import CARD, CARD_SECTIONS
from twinvae.errors import DataError
from twinvae.files import folder_bytes, write_json, write_text, write_yaml
from twinvae.imaging import SliceStore
from twinvae.models import halve_weights, twin_folders
from twinvae.outputs import replaced
from twinvae.runs.folder import Run
from twinvae.vocabulary import SCAN_KEY, SUBJECT_KEY

_MOST_BYTES = 10_000_000


def write_bundle(run: Run) -> None:
    """Pack recipe, both models, calibration and fitted scores of a run."""
    with replaced(run.bundle, "bundle") as folder:
        for trained in set(twin_folders(run.models).values()):
            packed = folder / "models" / trained.name
            packed.mkdir(parents=True)
            for name in ("model.json", "weights.safetensors"):
                shutil.copyfile(trained / name, packed / name)
        shutil.copyfile(run.slices / "recipe.json", folder / "recipe.json")
        shutil.copyfile(run.calibration, folder / "calibration.json")
        if run.fitted.is_file():
            shutil.copyfile(run.fitted, folder / "fitted.safetensors")
        write_json(folder / "domain.json", run_domain(run))
        write_yaml(folder / "config.yaml", dump_config(run.config))
        seal(folder, {})


def run_domain(run: Run) -> dict[str, Any]:
    """What the run's healthy validation scans are like."""
    store = SliceStore.open(run.slices)
    rows = store.select("healthy", "val")
    keys = list(SCAN_KEY)
    scans = read_strings(run.slices / "scans.tsv", "\t").set_index(keys)
    facts, subjects = [], []
    of_scans = store.index.iloc[rows].groupby(keys, sort=False).indices
    for key, places in of_scans.items():
        row, mine = scans.loc[[key]].iloc[0], rows[places]
        statistics = {name: float(row[name]) for name in RECIPE_STATISTICS}
        facts.append(scan_facts(store.images[mine], store.brain[mine], statistics))
        subjects.append("/".join(store.index.loc[mine[0], list(SUBJECT_KEY)]))
    return domain_of(facts, subjects)


def ship_bundle(run: Run, card: Path, out: Path) -> None:
    """Write the run's bundle with its model card as ``out``, ready to come with the package.

    Nothing in it names a path of the machine it was made on: what the run read is named by the last
    two parts of its path. Raises ``DataError`` when it is larger than 10 MB or the card lacks a
    section of ``CARD_SECTIONS``, ``OutputError`` when ``out`` holds anything but a bundle.
    """
    bundle = read_bundle(run.bundle)
    text = card.read_text(encoding="utf-8")
    missing = [section for section in CARD_SECTIONS if f"## {section}" not in text]
    if missing:
        raise DataError(f"{card}: expected a section {missing[0]!r}, found none")
    with replaced(out, "bundle") as folder:
        copy_files(run.bundle, bundle, folder)
        for weights in folder.glob("models/*/weights.safetensors"):
            halve_weights(weights)
        write_yaml(folder / "config.yaml", _without_places(dump_config(bundle.config)))
        write_text(folder / CARD, text)
        seal(folder, {})
        size = folder_bytes(folder)
        if size > _MOST_BYTES:
            raise DataError(f"{run.bundle}: expected at most 10 MB, found {size / 1e6:.1f}")


def _without_places(value: Any) -> Any:
    """The same settings, absolute paths cut to their last two parts."""
    if isinstance(value, dict):
        return {key: _without_places(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_places(each) for each in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return "/".join(Path(value).parts[-2:])
    return value
