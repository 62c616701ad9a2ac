"""A run's bundle: what detection needs of it, packed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinvae.cohort.manifest import read_strings
from twinvae.config import dump_config
from twinvae.decision.domain import RECIPE_STATISTICS, domain_of, scan_facts
from twinvae.decision.fusion import FUSED
from twinvae.detection.bundle import copy_files, read_bundle, seal
from twinvae.detection.composite import member_path, seal_composite
from twinvae.detection.seen import SEEN, seen_by
from twinvae.detection.shipped import CARD, CARD_SECTIONS
from twinvae.errors import ConfigError, DataError
from twinvae.files import checksum, folder_bytes, read_json, write_json, write_text, write_yaml
from twinvae.imaging import SliceStore
from twinvae.imaging.quality import read_flags
from twinvae.models import halve_weights, twin_folders
from twinvae.outputs import replaced
from twinvae.runs.folder import Run
from twinvae.runs.fuse import FORMAT, FUSION
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
        write_json(folder / SEEN, seen_by(read_flags(run.flags), run.starts).to_json())
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
    text = _card(card)
    with replaced(out, "bundle") as folder:
        _pack(run, folder, text)
        _require_small(folder, run.bundle)


def ship_composite(fusion: Path, members: Mapping[str, str], card: Path, out: Path) -> None:
    """Write the composite bundle of the runs fused in ``fusion``, with its model card, as ``out``.

    ``members``: contrast → the name of the bundle in the package that is this run's, packed; those
    of other contrasts are packed within. Raises ``DataError`` when a member is not the run's, or
    when the fusion is of tables or has no thresholds; else as ``ship_bundle``.
    """
    found, text = read_json(fusion / FUSION), _card(card)
    if found.get("format") != FORMAT or not found.get("calibrations"):
        raise DataError(f"{fusion}: expected runs fused with thresholds, found none; fuse anew")
    runs = {c: Run.open((fusion / path).resolve()) for c, path in found["given"].items()}
    for contrast, run in runs.items():
        if checksum(run.scores) != found["sha256"][contrast]:
            raise DataError(f"{run.scores}: expected the scores that were fused; fuse anew")
    strange = set(members) - set(runs)
    if strange:
        raise ConfigError(
            f"member: expected contrasts of {', '.join(runs)}, found {', '.join(strange)}"
        )
    with replaced(out, "bundle") as folder:
        write_text(folder / CARD, text)
        where = {c: members.get(c, f"members/{c}") for c in runs}
        for contrast, run in runs.items():
            if contrast in members:
                _require_same(member_path(folder, members[contrast]), run)
            else:
                _pack(run, folder / where[contrast], text)
                _require_small(folder / where[contrast], run.bundle)
        scale = found["scales"][FUSED]
        seal_composite(folder, out.resolve().name, where, scale, found["calibrations"])


def _card(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    missing = [section for section in CARD_SECTIONS if f"## {section}" not in text]
    if missing:
        raise DataError(f"{path}: expected a section {missing[0]!r}, found none")
    return text


def _pack(run: Run, folder: Path, card: str) -> None:
    """The run's bundle in ``folder``, its weights halved, without places."""
    bundle = read_bundle(run.bundle)
    copy_files(run.bundle, bundle, folder)
    for weights in folder.glob("models/*/weights.safetensors"):
        halve_weights(weights)
    write_yaml(folder / "config.yaml", _without_places(dump_config(bundle.config)))
    write_text(folder / CARD, card)
    seal(folder, {})


def _require_small(folder: Path, what: Path) -> None:
    size = folder_bytes(folder)
    if size > _MOST_BYTES:
        raise DataError(f"{what}: expected at most 10 MB, found {size / 1e6:.1f}")


def _require_same(bundle: Path, run: Run) -> None:
    """Scales of a run's scores hold for no other bundle than the run's."""
    if read_json(bundle / "calibration.json") != read_json(run.calibration):
        raise DataError(
            f"{bundle}: expected the bundle of {run.folder}, found other thresholds; pack the run "
            f"again (twinvae bundles pack)"
        )


def _without_places(value: Any) -> Any:
    """The same settings, absolute paths cut to their last two parts."""
    if isinstance(value, dict):
        return {key: _without_places(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_places(each) for each in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return "/".join(Path(value).parts[-2:])
    return value
