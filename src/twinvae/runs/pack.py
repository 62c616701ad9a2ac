"""A run's bundle: what detection needs of it, packed."""

from __future__ import annotations

import shutil
from typing import Any

from twinvae.cohort.manifest import read_strings
from twinvae.config import dump_config
from twinvae.decision.domain import RECIPE_STATISTICS, domain_of, scan_facts
from twinvae.detection.bundle import seal
from twinvae.files import write_json, write_yaml
from twinvae.imaging import SliceStore
from twinvae.models import twin_folders
from twinvae.outputs import replaced
from twinvae.runs.folder import Run
from twinvae.vocabulary import SCAN_KEY, SUBJECT_KEY


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
