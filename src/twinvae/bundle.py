"""The bundle: a folder with everything detection needs and nothing else; copy it anywhere."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinvae import __version__
from twinvae.cohort.manifest import read_strings
from twinvae.config import RunConfig, dump_config, load_config
from twinvae.decision.domain import RECIPE_STATISTICS, domain_of, scan_facts
from twinvae.errors import DataError, StageError
from twinvae.files import atomic_path, read_json, write_json, write_yaml
from twinvae.imaging import FittedRecipe, SliceStore
from twinvae.models import load_twins, twin_folders
from twinvae.run import Run
from twinvae.scoring import Fitted, Models, read_fitted, read_scores, scored_rows

FORMAT = 1


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
    """Content of bundle.json: format, version, and who calibrated it anew on what."""


def load_models(folder: Path) -> Models:
    """VAE-H and VAE as ``twin_folders`` finds them in ``folder``, on the CPU, ready to score."""
    return Models(*load_twins(folder))


def write_bundle(run: Run) -> None:
    """Pack recipe, both models, calibration and fitted scores of a run."""
    with atomic_path(run.bundle) as folder:
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
        write_json(folder / "bundle.json", {"format": FORMAT, "twinvae": __version__})


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle; ``DataError`` when ``folder`` is none or was written by a newer twinvae."""
    path = Path(folder) / "bundle.json"
    if not path.is_file():
        raise DataError(f"{folder}: expected a bundle (a folder with bundle.json), found none")
    about = read_json(path)
    found = about.get("format")
    if found != FORMAT:
        raise DataError(f"{path}: expected format {FORMAT}, found {found}; update twinvae")
    if not (Path(folder) / "domain.json").is_file():
        raise DataError(
            f"{folder}: expected domain.json, found none; an older twinvae wrote this bundle: "
            f"calibrate its run anew (twinvae calibrate RUN --force)"
        )
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
    rows = scored_rows(store)
    scores, index = read_scores(run.scores), store.index.iloc[rows].reset_index(drop=True)
    if len(scores) != len(rows):
        raise StageError(
            f"{run.scores}: expected {len(rows)} rows, one for each scored slice, found "
            f"{len(scores)}; run score again"
        )
    keys = ["source", "subject", "session"]
    scans = read_strings(run.slices / "scans.tsv", "\t").set_index(keys)
    healthy = index[(index["role"] == "healthy") & (index["split"] == "val")]
    facts, subjects = [], []
    for key, places in healthy.groupby(keys, sort=False).indices.items():
        at = healthy.index[places]
        row, mine = scans.loc[[key]].iloc[0], rows[at]
        source, subject = index.loc[at[0], ["source", "subject"]]
        statistics = {name: float(row[name]) for name in RECIPE_STATISTICS}
        facts.append(scan_facts(store.images[mine], store.brain[mine], statistics, scores.loc[at]))
        subjects.append(f"{source}/{subject}")
    return domain_of(facts, subjects)
