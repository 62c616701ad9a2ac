"""Gathers, from a run's files, everything its report is made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from twinvae.bundle import load_models
from twinvae.config import dump_config
from twinvae.evaluation import read_metrics
from twinvae.files import read_json
from twinvae.imaging import SliceStore, unit_images
from twinvae.reporting import Gallery, ReportMaterial
from twinvae.run import Run
from twinvae.scoring import Models, read_scores
from twinvae.training import Compute, to_tensor

_EXAMPLES = 8  # slices in each gallery
_TITLES = {"healthy": "VAE-H, healthy slices", "mixed": "VAE, mixed slices"}


def report_material(run: Run) -> ReportMaterial:
    """Read a run's tables, logs and slices; the galleries' reconstructions are made anew."""
    store = SliceStore.open(run.slices)
    compute = Compute.resolve(run.config.compute)
    models = load_models(run.models).to(compute.device)
    smallest = run.config.evaluation.headline_min_tumour_px
    tumour = example_rows(store.index, role="mixed", min_tumour_px=smallest)
    healthy = example_rows(store.index, role="healthy")
    return ReportMaterial(
        config=dump_config(run.config),
        scores=read_scores(run.scores),
        calibration=read_json(run.calibration),
        metrics=read_metrics(run.folder / "metrics.tsv"),
        audit=read_json(run.folder / "audit.json"),
        logs={title: _log(run.models / role) for role, title in _TITLES.items()},
        mixed=_gallery(store, tumour, models, compute),
        healthy=_gallery(store, healthy, models, compute),
        made=_made(run),
        skipped=store.skipped[["image", "reason"]].to_numpy().tolist(),
    )


def example_rows(
    index: pd.DataFrame, *, role: str, min_tumour_px: int | None = None
) -> NDArray[np.int64]:
    """Rows of test slices to show, chosen without looking at any score.

    One a subject, from subjects evenly spread over the sorted names: the slice with the most tumour
    pixels (more than ``min_tumour_px``), or, without that, slices evenly spread over the positions
    from 0.3 to 0.8.
    """
    table = index[(index["role"] == role) & (index["split"] == "test")]
    if min_tumour_px is not None:
        table = table[table["tumour_px"].fillna(0) > min_tumour_px]
    people = [group for _, group in table.groupby(["source", "subject"], sort=True)]
    if not people:
        return np.zeros(0, np.int64)
    spread = np.unique(np.linspace(0, len(people) - 1, _EXAMPLES).round().astype(int))
    positions = np.linspace(0.3, 0.8, len(spread))
    chosen = [
        (-people[i]["tumour_px"].astype(float)).idxmin()
        if min_tumour_px is not None
        else (people[i]["position"] - position).abs().idxmin()
        for i, position in zip(spread, positions, strict=True)
    ]
    return np.array(chosen, dtype=np.int64)


def _gallery(
    store: SliceStore, rows: NDArray[np.int64], models: Models, compute: Compute
) -> Gallery:
    images = store.images[rows]
    with torch.inference_mode(), compute.autocast():
        x_h = models.healthy.reconstruct(to_tensor(images, compute.device))
    known = store.index["tumour_px"].iloc[rows].gt(0).fillna(False).to_numpy(bool)
    return Gallery(
        images=unit_images(images),
        reconstructions=x_h.float().cpu().numpy()[:, 0],
        captions=[_caption(row) for _, row in store.index.iloc[rows].iterrows()],
        masks=store.tumour[rows].astype(bool) if known.any() else None,
    )


def _caption(row: pd.Series[Any]) -> str:
    lines = [str(row["subject"]), f"slice {row['slice']}"]
    if not pd.isna(row["tumour_px"]) and row["tumour_px"] > 0:
        lines.append(f"{row['tumour_px']} tumour px")
    return "\n".join(lines)


def _log(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _made(run: Run) -> dict[str, object]:
    """How the run was made, for the reader."""
    facts = read_json(run.folder / "run.json")
    versions = ", ".join(f"{name} {v}" for name, v in facts["versions"].items() if v)
    seconds = {role: read_json(run.models / role / "trained.json")["seconds"] for role in _TITLES}
    return {
        "Seed": facts["seed"],
        "Source revision": facts["git_revision"] or "installed package",
        "Versions": f"Python {facts['python']}, {versions}",
        "Precision": run.config.compute.precision,
        **{f"Training time, {_TITLES[role]}": f"{s:.0f} s" for role, s in seconds.items()},
    }
