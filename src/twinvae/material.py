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
from twinvae.imaging.quality import read_flags
from twinvae.models import SHARED, twin_folders
from twinvae.reporting import (
    Gallery,
    ReportMaterial,
    captions,
    choose_slices,
    summarise_flags,
    worst_captions,
    worst_slices,
)
from twinvae.run import Run
from twinvae.scoring import (
    MAPS,
    AbnormalityMap,
    Models,
    batches,
    map_batch,
    moved,
    read_fitted,
    read_scores,
    scored_rows,
)
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
    wrong, missed = _worst(run, judged, store, models, compute)
    return ReportMaterial(
        **judged,
        logs={title: log for title, f in _trained(run).items() if (log := _log(f))},
        mixed=_gallery("mixed", run, scores, store, models, compute),
        healthy=_gallery("healthy", run, scores, store, models, compute),
        false_positives=wrong,
        false_negatives=missed,
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


def _worst(
    run: Run, judged: dict[str, Any], store: SliceStore, models: Models, compute: Compute
) -> list[Gallery]:
    """The worst false positives and false negatives of the verdicts' score, with its map."""
    scores, calibration = judged["scores"], judged["calibration"]
    shown = _map_behind(calibration["decision_score"], models)
    chosen = worst_slices(scores, calibration, run.config.evaluation.headline_min_tumour_px)
    return [_mapped(each, shown, run, judged, store, models, compute) for each in chosen]


def _mapped(
    chosen: NDArray[np.int64],
    shown: AbnormalityMap,
    run: Run,
    judged: dict[str, Any],
    store: SliceStore,
    models: Models,
    compute: Compute,
) -> Gallery:
    """The rows ``chosen`` of the scores, with what the healthy model and the map make of them."""
    rows = scored_rows(store)[chosen]
    fitted = moved(read_fitted(run.fitted), compute.device)
    images = unit_images(store.images[rows])
    x_h, maps = [np.empty((0, *images.shape[1:]))], [np.empty((0, *images.shape[1:]))]
    for batch in batches(store, rows, models, run.config.scoring, compute, fitted):
        maps.append(map_batch(batch, [shown], compute)[shown.name])
        with torch.inference_mode(), compute.autocast():
            x_h.append((batch.x_h.float() * batch.inside).cpu().numpy()[:, 0])
    return Gallery(
        images=images,
        reconstructions=np.concatenate(x_h),
        captions=worst_captions(judged["scores"], chosen, judged["calibration"]),
        masks=store.tumour[rows].astype(bool),
        maps=np.concatenate(maps) * store.brain[rows],
        map_name=shown.name.replace("_", " "),
    )


def _map_behind(score: str, models: Models) -> AbnormalityMap:
    """The map that ``score`` is computed from, else the residual."""
    able = [name for name, entry in MAPS.items() if entry.applies(models)]
    whose = [name for name in able if score == name or score.startswith(f"{name}_")]
    return MAPS[max(whose, key=len, default="residual")]


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
        **_thresholds(run),
        **{
            f"Trained: {title}": f"{fact['parameters']:,} parameters, {fact['seconds']:.0f} s"
            for title, fact in trained.items()
        },
    }


def _thresholds(run: Run) -> dict[str, object]:
    """What verdicts rest on, for the reader."""
    calibration = read_json(run.calibration)
    rule, scans = calibration["rule"], calibration["scan_rule"]
    return {
        "Thresholds of slices": f"{rule['name'].replace('_', ' ')}: {rule['summary']}. "
        f"Guarantee: {rule['guarantee']}. Assumes: {rule['assumes']}.",
        "Thresholds of scans": f"{scans['summary']}. Guarantee: {scans['guarantee']}.",
        "Set on": calibration["origin"]["says"],
    }
