"""The bundle: a folder with everything detection needs and nothing else; copy it anywhere."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinvae import __version__
from twinvae.config import RunConfig, dump_config, load_config
from twinvae.errors import DataError
from twinvae.files import atomic_path, read_json, write_json, write_yaml
from twinvae.imaging import FittedRecipe
from twinvae.models import load_twins, twin_folders
from twinvae.run import Run
from twinvae.scoring import Fitted, Models, read_fitted

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
        write_yaml(folder / "config.yaml", dump_config(run.config))
        write_json(folder / "bundle.json", {"format": FORMAT, "twinvae": __version__})


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle; ``DataError`` when ``folder`` is none or was written by a newer twinvae."""
    path = Path(folder) / "bundle.json"
    if not path.is_file():
        raise DataError(f"{folder}: expected a bundle (a folder with bundle.json), found none")
    found = read_json(path).get("format")
    if found != FORMAT:
        raise DataError(f"{path}: expected format {FORMAT}, found {found}; update twinvae")
    return Bundle(
        config=load_config(folder / "config.yaml"),
        recipe=FittedRecipe.read(folder / "recipe.json"),
        calibration=read_json(folder / "calibration.json"),
        models=load_models(folder / "models"),
        fitted=read_fitted(folder / "fitted.safetensors"),
    )
