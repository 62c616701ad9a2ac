"""The bundle: a folder with everything detection needs and nothing else; copy it anywhere."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinvae import __version__
from twinvae.cohort.manifest import read_strings
from twinvae.config import RunConfig, dump_config, load_config
from twinvae.decision.domain import RECIPE_STATISTICS, domain_of, scan_facts
from twinvae.errors import DataError
from twinvae.files import checksum, digest, read_json, write_json, write_yaml
from twinvae.imaging import FittedRecipe, SliceStore
from twinvae.models import load_twins, twin_folders
from twinvae.outputs import replaced
from twinvae.run import Run
from twinvae.scoring import Fitted, Models, read_fitted

FORMAT = 2
_ABOUT = "bundle.json"


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory."""

    config: RunConfig
    recipe: FittedRecipe
    calibration: dict[str, Any]
    models: Models
    fitted: Fitted
    """What fitted scores learned from the run's healthy slices."""
    domain: dict[str, Any]
    """What healthy validation scans are like (``decision.domain``)."""
    about: dict[str, Any]
    """Content of bundle.json: format, version, who calibrated it anew on what, and ``files``, the
    checksum of every other file by its name."""


def load_models(folder: Path) -> Models:
    """VAE-H and VAE as ``twin_folders`` finds them in ``folder``, on the CPU, ready to score."""
    return Models(*load_twins(folder))


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


def seal(folder: Path, about: Mapping[str, Any]) -> None:
    """Write bundle.json, the last file of a bundle: ``about`` it, and the checksum of each file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = {str(path.relative_to(folder)): checksum(path) for path in files if path.name != _ABOUT}
    sealed = {**about, "format": FORMAT, "twinvae": __version__, "files": sums}
    write_json(folder / _ABOUT, {**sealed, "seal": digest(sealed)})


def _about(folder: Path) -> dict[str, Any]:
    """Content of bundle.json, once all it says of the files is found true."""
    path = folder / _ABOUT
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
    about: dict[str, Any] = {key: value for key, value in found.items() if key != "seal"}
    if found.get("seal") != digest(about):
        raise DataError(f"{path}: expected the file as it was packed, found it edited or damaged")
    for name, wanted in about["files"].items():
        if not (folder / name).is_file():
            raise DataError(f"{folder / name}: no such file, though bundle.json names it")
        if checksum(folder / name) != wanted:
            raise DataError(
                f"{folder / name}: expected the file as it was packed, found it edited or damaged"
            )
    return about


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle.

    Raises ``DataError`` when ``folder`` is none, another version's, or not as it was packed.
    """
    folder = Path(folder)
    about = _about(folder)
    return Bundle(
        config=load_config(folder / "config.yaml"),
        recipe=FittedRecipe.read(folder / "recipe.json"),
        calibration=read_json(folder / "calibration.json"),
        models=load_models(folder / "models"),
        fitted=read_fitted(folder / "fitted.safetensors"),
        domain=read_json(folder / "domain.json"),
        about=about,
    )


def run_domain(run: Run) -> dict[str, Any]:
    """What the run's healthy validation scans are like."""
    store = SliceStore.open(run.slices)
    rows = store.select("healthy", "val")
    keys = ["source", "subject", "session"]
    scans = read_strings(run.slices / "scans.tsv", "\t").set_index(keys)
    facts, subjects = [], []
    of_scans = store.index.iloc[rows].groupby(keys, sort=False).indices
    for key, places in of_scans.items():
        row, mine = scans.loc[[key]].iloc[0], rows[places]
        statistics = {name: float(row[name]) for name in RECIPE_STATISTICS}
        facts.append(scan_facts(store.images[mine], store.brain[mine], statistics))
        subjects.append("/".join(store.index.loc[mine[0], ["source", "subject"]]))
    return domain_of(facts, subjects)
