"""Gathers, from a run's files, everything its report is made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from twinvae.bundle import load_models
from twinvae.config import dump_config
from twinvae.evaluation import read_metrics
from twinvae.files import read_json
from twinvae.imaging import SliceStore, unit_images
from twinvae.imaging.quality import read_flags
from twinvae.models import SHARED, twin_folders
from twinvae.reporting import (
    Gallery,
    ReportMaterial,
    captions,
    choose_slices,
    summarise_flags,
)
from twinvae.run import Run
from twinvae.scoring import Models, read_scores, scored_rows
from twinvae.training import Compute, to_tensor

_TITLES = {
    "healthy": "VAE-H, healthy slices",
    "mixed": "VAE, mixed slices",
    SHARED: "one model, slices of both roles",
}


def report_material(run: Run) -> ReportMaterial:
    """Read a run's tables, logs and slices; the galleries' reconstructions are made anew."""
    store = SliceStore.open(run.slices)
    compute = Compute.resolve(run.config.compute)
    models = load_models(run.models).to(compute.device)
    judged = judged_tables(run)
    scores = judged["scores"]
    return ReportMaterial(
        **judged,
        logs={title: log for title, f in _trained(run).items() if (log := _log(f))},
        mixed=_gallery("mixed", run, scores, store, models, compute),
        healthy=_gallery("healthy", run, scores, store, models, compute),
        made=_made(run),
        skipped=store.skipped[["image", "reason"]].to_numpy().tolist(),
        flags=summarise_flags(read_flags(run.flags)) if run.flags.is_file() else None,
    )


def judged_tables(run: Run) -> dict[str, Any]:
    """What every report stands on: the configuration, the scores and how they were judged."""
    return {
        "config": dump_config(run.config),
        "scores": read_scores(run.scores),
        "calibration": read_json(run.calibration),
        "metrics": read_metrics(run.folder / "metrics.tsv"),
        "audit": read_json(run.folder / "audit.json"),
    }


def _gallery(
    role: str, run: Run, scores: pd.DataFrame, store: SliceStore, models: Models, compute: Compute
) -> Gallery:
    """Test slices of one role, chosen without looking at scores, and VAE-H's idea of them."""
    chosen = choose_slices(scores, role, run.config.evaluation.headline_min_tumour_px)
    rows = scored_rows(store)[chosen]
    images = store.images[rows]
    with torch.inference_mode(), compute.autocast():
        x_h = models.healthy.reconstruct(to_tensor(images, compute.device))
    return Gallery(
        images=unit_images(images),
        reconstructions=x_h.float().cpu().numpy()[:, 0] * store.brain[rows],
        captions=captions(scores, chosen, run.config.decision.score),
        masks=store.tumour[rows].astype(bool) if role == "mixed" else None,
    )


def _trained(run: Run) -> dict[str, Path]:
    """Every trained model of the run: what it is called, and its folder."""
    return {_TITLES[f.name]: f for f in twin_folders(run.models).values()}


def _log(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _made(run: Run) -> dict[str, object]:
    """How the run was made, for the reader."""
    facts = read_json(run.folder / "run.json")
    versions = ", ".join(f"{name} {v}" for name, v in facts["versions"].items() if v)
    trained = {title: read_json(f / "trained.json") for title, f in _trained(run).items()}
    return {
        "Seed": facts["seed"],
        "Source revision": facts["git_revision"] or "installed package",
        "Versions": f"Python {facts['python']}, {versions}",
        "Precision": run.config.compute.precision,
        **{
            f"Trained: {title}": f"{fact['parameters']:,} parameters, {fact['seconds']:.0f} s"
            for title, fact in trained.items()
        },
    }
